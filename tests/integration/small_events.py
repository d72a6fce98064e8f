"""The config `events:tiny` made smaller: one program of each kind; the argument is the prepared set."""

from jaxdet import config_files


def get_config(root):
    cfg = config_files.load(f"events:tiny,{root}").unlock()
    cfg.model.widths, cfg.model.num_heads = (16,), (1,)
    cfg.model.out_features, cfg.model.event_features = 16, 4
    cfg.model.window *= 2
    cfg.model.min_score = 1e-4  # of boxes after so few updates
    cfg.optim.lr = 1e-2
    cfg.model.event_sizes = cfg.model.event_sizes[-1:]
    cfg.data.event_buckets = cfg.data.event_buckets[-1:]
    cfg.data.batch_size = 2
    cfg.train.num_iterations = cfg.train.iterations_per_epoch = 13  # of four segments
    return cfg
