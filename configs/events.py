"""HMNet on a prepared set of recordings, own or public: train --config=events:<size>[,<folder>][,<stage>]

    jaxdet prepare events --source=recordings --labels=labels.csv --classes=car,person --out=data/mine
    jaxdet train --config=events:tiny,data/mine --workdir=runs/mine

Sensor, classes, label rate and loads are read from dataset.json in the folder (data/events without one),
which `prepare` wrote. Sizes are those of HMNet, and `tiny`, which trains on a CPU in minutes; the stages are
`short`, the default, and `tbptt`, which starts from a run of `short` (--init).
"""

import math

from jaxdet import config as c
from jaxdet.data.datasets import event_sets
from jaxdet.errors import InputError

SIZES = ("tiny", *c.HMNET_SIZES)
STAGES = tuple(c.GEN1_STAGES)
DENSE_US = 100_000  # between labelled times, at most: most segments of 200 ms have some


def get_config(arg: str = "b3"):
    size, root, stage = _words(arg)
    description = event_sets.read_description(root)
    cfg = c.base()
    cfg.data = c.gen1(stage, batch_size=4 if size == "tiny" else 16, root=root)
    cfg.data.update({"classes": tuple(description["classes"]), "augment": size != "tiny"})
    cfg.data.width, cfg.data.height = description["width"], description["height"]
    if size == "tiny":
        _tiny_recipe(cfg, description["label_interval_us"])
    cfg.model = _model(size, description)
    cfg.model.event_sizes = event_sets.step_sizes(description)
    cfg.data.event_buckets = event_sets.buckets(description, cfg.data.segment_ms)
    cfg.data.max_boxes = max(8, 8 * math.ceil(description["most_boxes"] / 8))
    cfg.data.max_slots = _slots(cfg, description)
    if size != "tiny":
        cfg.optim = c.adamw(lr=2e-4, weight_decay=0.01)
        c.by_epochs(cfg, 30 if stage == "short" else 1)
    return cfg


def _tiny_recipe(cfg, label_interval_us: int) -> None:
    """Window, segments and updates of `tiny`.

    Where labels are dense, gradients reach back a segment while the memory goes on, at half the cost; else
    most segments would have no label.
    """
    cfg.optim = c.adamw(lr=3e-3, weight_decay=0.01)
    cfg.train.checkpoint_every = 240
    if label_interval_us <= DENSE_US:
        cfg.data.window_ms, cfg.data.segment_ms, cfg.data.warmup = 800, 200, "recording"
        cfg.train.num_iterations = cfg.train.iterations_per_epoch = 300
    else:
        cfg.data.window_ms = cfg.data.segment_ms = 400
        cfg.train.num_iterations = cfg.train.iterations_per_epoch = 960


def _words(arg: str) -> tuple[str, str, str]:
    size, *words = arg.split(",")
    stages = [word for word in words if word in STAGES]
    folders = [word for word in words if word not in STAGES]
    if size not in SIZES or len(stages) > 1 or len(folders) > 1 or (size == "tiny" and "tbptt" in stages):
        raise InputError(
            f"config argument {arg!r}: expected <{'|'.join(SIZES)}>[,<folder of the prepared set>]"
            f"[,<{'|'.join(STAGES)}>], tiny without tbptt, such as events:b3,data/mine,short"
        )
    return size, folders[0] if folders else "data/events", stages[0] if stages else "short"


def _model(size: str, description: dict):
    image_size = (description["height"], description["width"])
    classes = len(description["classes"])
    if size != "tiny":
        return c.hmnet(size, classes, image_size=image_size)
    # About as many cells as the synthetic example has.
    window = 16 if max(image_size) <= 400 else 32 if max(image_size) <= 800 else 64
    reduced = {"widths": (32,), "num_heads": (2,), "out_features": 64, "event_features": 8}
    reduced["nms_iou"] = 0.3  # boxes of so short a training lie less exactly; at 0.65 many objects have two
    return c.hmnet("b1", classes, image_size=image_size, window=window, warm_up_steps=31, **reduced)


def _slots(cfg, description: dict) -> int:
    """Labelled steps that a segment may hold, after its warm-up steps if each has them."""
    warm_up_ms = 5 * cfg.model.get("warm_up_steps", 21) if cfg.data.warmup == "segment" else 0
    used_ms = max(cfg.data.segment_ms - warm_up_ms, 5)
    on_grid = math.ceil(1000 * used_ms / description["label_interval_us"])
    found = math.ceil(description["most_labelled_times_in_200_ms"] * used_ms / 200)
    return min(max(on_grid, found) + 1, used_ms // 5)
