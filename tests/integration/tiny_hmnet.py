"""One small memory on windows of two segments of 50 ms: the config of end-to-end tests."""

from jaxdet import config as c


def get_config():
    cfg = c.base()
    cfg.model = c.hmnet("b1", 2, widths=(16,), num_heads=(1,), out_features=16, event_features=4, window=32)
    cfg.model.event_sizes, cfg.model.warm_up_steps = (1024,), 3
    cfg.data = c.gen1("short", batch_size=2)
    cfg.data.window_ms, cfg.data.segment_ms = 100, 50
    cfg.data.event_buckets = (8192,)
    cfg.data.max_slots = 4
    cfg.optim = c.adamw(lr=2e-4, weight_decay=0.01, schedule="constant")
    cfg.train.log_every = 1
    cfg.train.checkpoint_every = 1
    cfg.train.keep = 4
    return cfg
