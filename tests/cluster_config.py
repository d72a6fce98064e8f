"""A tiny HMNet on windows of two segments, in float64 where JAX_ENABLE_X64 is set: the config of cluster
tests.

`b1` has one memory, which compiles in a tenth of the time; `b3` has three, of periods whose common one is
short: the steps of a whole cycle are compiled.
"""

import os

from jaxdet import config as c

SIZE = (32, 32)  # width, height


MEMORIES = {"b1": (1,), "b3": (1, 2, 4)}


def get_config(arg="b1"):
    cfg = c.base()
    periods = MEMORIES[arg]
    small, ones = (8,) * len(periods), (1,) * len(periods)
    cfg.model = c.hmnet("b3", 2, widths=small, num_heads=ones, depths=ones, periods=periods, out_features=8)
    cfg.model.image_size = (SIZE[1], SIZE[0])
    cfg.model.event_features = 4
    cfg.model.warm_up_steps = 3
    cfg.model.remat = False
    cfg.model.event_sizes = ()
    cfg.model.dtype = "float64" if os.environ.get("JAX_ENABLE_X64") == "1" else "float32"
    cfg.data = c.gen1("short", batch_size=4)
    cfg.data.width, cfg.data.height = SIZE
    cfg.data.window_ms, cfg.data.segment_ms = 160, 80
    cfg.data.event_buckets = (2048,)
    cfg.data.max_boxes, cfg.data.max_slots = 4, 2
    cfg.data.warmup = "recording"
    # At ten times the rate so small a model is chaotic: what rounding does grows a hundredfold in two
    # updates.
    cfg.optim = c.adamw(lr=1e-4, weight_decay=0.01, schedule="constant")
    cfg.train.num_iterations = 10
    cfg.train.iterations_per_epoch = 5
    cfg.train.log_every = 1
    cfg.train.checkpoint_every = 4
    return cfg
