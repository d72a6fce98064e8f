"""The two steps of HMNet's recipe on simulated recordings, with a reduced B3: <short|longer|tbptt>

    train --config=configs/synthetic_b3.py:short --workdir=runs/short
    train --config=configs/synthetic_b3.py:tbptt --init=runs/short --workdir=runs/tbptt

`longer` continues step 1 instead, for as many updates as step 2 makes, as a baseline for step 2.
"""

from jaxdet import config as c

# Window in ms, iterations, learning rate. Segments have 200 ms, so step 2 makes eight updates per iteration.
STAGES = {"short": (200, 400, 3e-3), "longer": (200, 200, 1e-3), "tbptt": (1600, 25, 1e-3)}


def get_config(arg: str = "short"):
    (stage,) = c.parse(arg, STAGES)
    window_ms, iterations, lr = STAGES[stage]
    cfg = c.synthetic()
    # Cells of 16 pixels and a firing pattern of 4 steps: three memories that two CPU cores can train.
    cfg.model = c.hmnet(
        "b3",
        2,
        image_size=(256, 320),
        window=16,
        widths=(32, 64, 64),
        num_heads=(2, 4, 4),
        depths=(1, 1, 1),
        periods=(1, 2, 4),
        out_features=64,
        event_features=8,
    )
    cfg.model.event_sizes = (384, 640, 1024)
    cfg.model.remat = False  # its activations are small
    cfg.data.root = "data/synthetic_b3"
    cfg.data.simulate.train = 96
    cfg.data.window_ms, cfg.data.segment_ms, cfg.data.batch_size = window_ms, 200, 8
    cfg.data.event_buckets = (40_960,)
    cfg.data.max_slots = 4  # labels at 20 Hz
    cfg.data.warmup = "recording"
    cfg.optim.lr, cfg.optim.b2 = lr, 0.999
    cfg.train.num_iterations = cfg.train.iterations_per_epoch = iterations
    cfg.train.evaluate_every = 120  # of two recordings, for ap.png
    return cfg
