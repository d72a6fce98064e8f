"""One small memory on windows of two segments of 200 ms: the config of end-to-end tests."""

from jaxdet import config as c


def get_config():
    cfg = c.base()
    cfg.model = c.hmnet("b1", 2, widths=(16,), num_heads=(1,), out_features=16, event_features=4, window=16)
    cfg.model.event_sizes = (1024,)
    cfg.data = c.gen1("short", batch_size=2)
    cfg.data.window_ms = 400
    cfg.data.event_buckets = (32_768,)
    cfg.data.max_slots = 4
    cfg.optim = c.adamw(lr=2e-4, weight_decay=0.01, schedule="constant")
    cfg.train.log_every = 1
    cfg.train.checkpoint_every = 1
    cfg.train.keep = 4
    return cfg
