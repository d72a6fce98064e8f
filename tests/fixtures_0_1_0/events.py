"""A small HMNet on recordings of 64 x 48 pixels, as a config file of version 0.1.0 says it."""

from jaxdet import config as c


def get_config():
    cfg = c.base()
    cfg.model = c.hmnet("b1", 2, image_size=(48, 64), widths=(8,), num_heads=(1,), out_features=8, window=16)
    cfg.model.event_features = 4
    cfg.model.event_sizes = (1024,)
    cfg.data = c.gen1("short", batch_size=2, root="recordings")
    cfg.data.validation_split = cfg.data.test_split = "train"
    cfg.data.height, cfg.data.width = 48, 64
    cfg.data.window_ms = 400
    cfg.data.event_buckets = (2048,)
    cfg.data.max_slots = 4
    cfg.optim = c.adamw(lr=2e-4, weight_decay=0.01, schedule="constant")
    cfg.train.num_iterations = 2  # windows of two segments: four steps
    cfg.train.log_every = 1
    cfg.train.checkpoint_every = 1
    cfg.train.evaluate_every = 2
    cfg.train.keep = 1
    return cfg
