"""Building blocks of configs, so that a config file states only its own values."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxdet import class_names
from jaxdet.errors import InputError
from jaxdet.model_sizes import HMNET_SIZES, YOLOV4_SIZES, YOLOX_SIZES

# A ConfigDict; its attributes are not known to type checkers.
Config = Any

# Window and segment length in ms, iterations of the released recipe (4523 = 72371 labelled ms // 16).
GEN1_STAGES: dict[str, dict[str, int]] = {
    "short": {"window_ms": 200, "segment_ms": 200, "num_iterations": 90 * 4523, "log_every": 10},
    "tbptt": {"window_ms": 8100, "segment_ms": 810, "num_iterations": 4523, "log_every": 1},
}
GEN1_ITERATIONS_PER_EPOCH = 4523

# Names that config files of users write, as in `c.yolox("nano", len(c.COCO_CLASSES))`.
GEN1_CLASSES, LTD_CLASSES, COCO_CLASSES = class_names.GEN1, class_names.LTD, class_names.COCO


def parse(arg: str, *tables: Sequence[str] | Mapping[str, Any]) -> tuple[str, ...]:
    """Words after the colon of `--config=file.py:b3,tbptt`; InputError for a word not in its table."""
    words = arg.split(",")
    if len(words) != len(tables):
        raise InputError(
            f"config argument {arg!r} has {len(words)} parts, expected {len(tables)}: {_choices(tables)}"
        )
    for word, table in zip(words, tables, strict=True):
        if word not in table:
            raise InputError(f"config argument {arg!r}: {word!r} is not one of {', '.join(table)}")
    return tuple(words)


def _choices(tables) -> str:
    return ",".join("<" + "|".join(table) + ">" for table in tables)


def block(**values: Any) -> Config:
    """A ConfigDict of these values; setting an unknown key is an error."""
    return ConfigDict(values)


def base() -> Config:
    """Settings of every run: seed, training and sharding."""
    cfg: Config = ConfigDict()
    cfg.seed = 42
    cfg.train = block(
        num_iterations=1,
        iterations_per_epoch=1,
        log_every=10,  # iterations
        checkpoint_every=500,  # optimiser steps
        keep=3,
        keep_every=0,  # optimiser steps; 0 keeps only the newest `keep`
        evaluate_every=0,  # optimiser steps; 0: at the end only
        # above 0, epochs sets num_iterations; the three below, unless 0, set the `_every` of their name
        epochs=0,
        checkpoint_epochs=0,
        evaluate_epochs=0,
        keep_epochs=0,
        microbatches=1,  # groups of lanes whose gradients are averaged
        fast=False,  # for CPUs: wide 3x3 convolutions and their gradients by Winograd's algorithm
        tensorboard=False,
        wandb="",  # project of Weights & Biases
        mlflow="",  # experiment of MLflow
    )
    # (regex on the dotted path, "data" for fully sharded, or the axes); all other arrays are replicated.
    cfg.sharding = ()
    return cfg


def hmnet(size: str, num_classes: int, **changes: Any) -> Config:
    """Model block of the HMNet of a size, for GEN1 sensors; `changes` replace single arguments."""
    defaults = {"image_size": (240, 304), "dtype": "float32", "neck": "released"}
    defaults |= {"remat": True, "keep_products": False}
    arguments = {**defaults, **HMNET_SIZES[size], **changes}
    return block(name="hmnet", num_classes=num_classes, **arguments)


def gen1(stage: str = "short", batch_size: int = 16, root: str = "data/gen1") -> Config:
    """Data block of prepared GEN1 recordings."""
    times = GEN1_STAGES[stage]
    return block(
        kind="events",
        root=root,
        classes=class_names.GEN1,
        train_split="train",
        validation_split="val",
        test_split="test",
        height=240,
        width=304,
        step_us=5000,
        window_ms=times["window_ms"],
        segment_ms=times["segment_ms"],
        batch_size=batch_size,  # over all processes
        event_buckets=(65_536, 131_072, 262_144, 524_288, 1_048_576),
        max_boxes=64,
        max_slots=4 if stage == "tbptt" else 1,
        augment=True,
        # Largest random turn, shift (of the sensor), zoom and slant of a whole window; as here: none.
        affine=block(rotation=0.0, translation=0.0, scale=1.0, shear=0.0),
        erase=0,  # regions of the sensor that are silent for a while, in each window
        balance=False,  # classes take turns in the order of windows
        label_every=1,  # labelled times of a recording: 1 of so many is trained on
        warmup="segment",  # warm-up steps at the start of each segment, or of each "recording"
        workers=0,
        skip_corrupt=False,
        overfit=0,
        seed=42,
    )


def synthetic() -> Config:
    """Config of a small HMNet on simulated recordings, which trains in minutes on a CPU.

    Windows of 16 pixels make a step cheap. Gradients reach back 200 ms; the memory goes on over the segments
    of a window, back to when a standing object last moved.
    """
    cfg = base()
    # One memory on a grid of 16-pixel cells: a twentieth of B1's arithmetic.
    cfg.model = hmnet(
        "b1", 2, widths=(32,), num_heads=(2,), out_features=64, event_features=24, window=16, warm_up_steps=31
    )
    cfg.model.event_sizes = (128, 384, 768)
    cfg.model.nms_iou = 0.3  # boxes of so short a training lie less exactly; at 0.65 many objects have two
    cfg.data = gen1("short", batch_size=2, root="data/synthetic")
    cfg.data.window_ms, cfg.data.segment_ms, cfg.data.warmup = 800, 200, "recording"
    cfg.data.event_buckets = (32_768,)
    cfg.data.max_boxes, cfg.data.max_slots = 8, 4
    cfg.data.augment = False  # more simulated scenes are as good
    # Recordings that are simulated if `root` does not exist.
    cfg.data.simulate = block(train=36, val=2, test=8, duration_s=6.0, seed=0)
    cfg.optim = adamw(lr=3e-3, weight_decay=0.01)
    cfg.optim.b2 = 0.99  # released: squared gradients over 1,000 updates, more than there are
    cfg.train.num_iterations = cfg.train.iterations_per_epoch = 120
    cfg.train.checkpoint_every = 240
    return cfg


def adamw(lr: float, weight_decay: float, schedule: str = "cosine") -> Config:
    """AdamW of the released HMNet recipe; the rate ends at 1e-7."""
    return block(
        name="adamw",
        lr=lr,
        final_lr=1e-7,
        weight_decay=weight_decay,
        b2=0.999,
        schedule=schedule,
        ema_decay=0.0,  # 0: no average, as released
        ema_ramp=2000.0,  # updates
        teacher_slots=0,  # steps of a segment without a label that the average labels
        teacher_score=0.5,
    )


def sgd_yolov4(lr: float = 0.01) -> Config:
    """SGD of the released Seq-YOLO: losses are summed over 64 images, rates fall from epoch to epoch."""
    return block(
        name="sgd",
        schedule="yolov4",
        lr=lr,
        final=0.2,  # of lr
        momentum=0.937,
        weight_decay=5e-4,
        warmup_epochs=3,
        warmup_steps=1000,  # at least
        warmup_bias_lr=0.1,
        warmup_momentum=0.9,
        nominal_batch=64,  # images whose gradients make an update
        ema_decay=0.9999,  # 0: no average
        ema_ramp=2000.0,  # updates
    )


def sgd_yolox(lr: float = 0.01) -> Config:
    """SGD of the released YOLOX; from step `data.plain_from` on with an L1 loss and the final rate."""
    return block(
        name="sgd",
        schedule="yolox",
        lr=lr,  # at a batch of `nominal_batch`; in proportion with others
        final=0.05,  # of lr
        momentum=0.9,
        weight_decay=5e-4,
        warmup_epochs=5,
        nominal_batch=64,
        ema_decay=0.9998,
        ema_ramp=2000.0,
    )


def yolov4(size: str, num_classes: int, **changes: Any) -> ConfigDict:
    """Model block of the YOLOv4 of a size; `changes` replace single arguments, for example `min_score`."""
    arguments = {"stem": 32, "dtype": "float32", **YOLOV4_SIZES[size], **changes}
    return block(name="yolov4", num_classes=num_classes, **arguments)


def yolox(size: str, num_classes: int, **changes: Any) -> ConfigDict:
    """Model block of the YOLOX of a size; `changes` replace single arguments."""
    return block(
        name="yolox", num_classes=num_classes, **{"dtype": "float32", **YOLOX_SIZES[size], **changes}
    )


def yolov4_images(
    size: int, stride: int, classes: Sequence[str], batch_size: int, root: str = "data/images"
) -> ConfigDict:
    """Data block of images as YOLOv4 takes them: RGB, in rectangles of multiples of `stride` by aspect."""
    return block(
        kind="images",
        classes=tuple(classes),
        placement="yolov4",
        size=size,  # pixels of the longer side
        stride=stride,  # coarsest level, pixels
        pad=0.5,  # strides added before rounding up
        batch_size=batch_size,
        **_training_images(root),
    )


def yolox_images(size: int, classes: Sequence[str], batch_size: int, root: str = "data/images") -> ConfigDict:
    """Data block of images as YOLOX takes them: BGR, in the upper left corner of a square."""
    return block(
        kind="images",
        classes=tuple(classes),
        placement="yolox",
        size=size,
        stride=32,
        batch_size=batch_size,
        **_training_images(root),
    )


def _training_images(root: str) -> dict[str, Any]:
    """Keys of a data block for the splits of labelled images and their augmentation.

    A split, below `root`, is a folder of images or a .txt list of them with YOLO labels in labels/ beside
    images/, or COCO annotations as FILE.json or FILE.json:FOLDER (of the images; default: images/ beside the
    file).
    """
    return {
        "root": root,
        "train_split": "train/images",
        "validation_split": "val/images",
        "test_split": "test/images",
        "yaml": "",  # a data.yaml, COCO annotations or a folder, which say root, splits and classes instead
        "class_map": {},  # other names of classes in COCO annotations, such as {"bike": "bicycle"}
        "radiometric": "auto",  # 16-bit pixels to 8: minmax, percentile, kelvin:LO,HI
        "check": "headers",  # of the images before the first step; "full" decodes them
        "max_boxes": 120,  # in a mosaic; what is left out is counted and logged
        "recipe": "scratch",  # or "finetune", "plain"
        "plain_from": 0,  # step from which samples are single images; 0: never
        "plain_epochs": 0,  # the same, as the number of last epochs of train.epochs
        "aspect": 1.0,  # height to width of training images
        "sizes": (),  # multi-scale: every step takes one of these, a compiled program each; (): `size`
        "cache": 0,  # decoded images kept in memory
        "workers": 0,
        "overfit": 0,
        "seed": 42,
    }


COCO_SPLITS = {
    "root": "data/coco",
    "train_split": "annotations/instances_train2017.json:train2017",
    "validation_split": "annotations/instances_val2017.json:val2017",
    "test_split": "annotations/instances_val2017.json:val2017",
}

# Training splits of LTD and the frame lists that `prepare ltd` writes of each.
LTD_FRAMES = (
    ("Day", "Week", "Month"),
    ("all", "e5", "e10", "e15", "e10_bic10_mot", "e10_bic10_mot10", "e10_bic10_mot10_a"),
)


def ltd_splits(split: str = "Day", frames: str = "e5") -> dict[str, str]:
    """Splits of LTD with the frame list `frames` of a training split.

    The challenge's validation frames are in val/images, those of a test month in <month>/images.
    """
    return {
        "root": "data/ltd",
        "train_split": f"{split}/{frames}.txt",
        "validation_split": "val/images",
        "test_split": "Sep/images",
    }


def annotated_images(
    arg: str, classes: Sequence[str], root: str, splits: Sequence[str], pixels: int, epochs: int
) -> Config:
    """Config of the YOLOX (nano to x) or YOLOv4 (p5, p6, p7) that `arg` names on a prepared set.

    `splits` are the folders with COCO annotations for training, validation and test.
    """
    (size,) = parse(arg, (*YOLOX_SIZES, "p5", "p6", "p7"))
    cfg = base()
    if size in YOLOX_SIZES:
        cfg.model = yolox(size, len(classes))
        cfg.data = yolox_images(pixels, classes, batch_size=16, root=root)
        cfg.data.plain_epochs = min(15, epochs // 3)
        cfg.optim = sgd_yolox()
    else:
        cfg.model = yolov4(size, len(classes))
        stride = 2 << (len(YOLOV4_SIZES[size]["stages"]) - 1)
        cfg.data = yolov4_images(-(-pixels // stride) * stride, stride, classes, batch_size=16, root=root)
        cfg.optim = sgd_yolov4()
    files = [f"{split}/annotations.json" for split in splits]
    cfg.data.train_split, cfg.data.validation_split, cfg.data.test_split = files
    by_epochs(cfg, epochs)
    return cfg


def by_epochs(cfg: Config, epochs: int, every: int = 5) -> None:
    """Train `epochs` epochs; evaluate and keep a numbered checkpoint `every` 5 of them, as released."""
    cfg.train.epochs = epochs
    cfg.train.checkpoint_epochs = cfg.train.evaluate_epochs = cfg.train.keep_epochs = every


def small_images(family: str, classes: Sequence[str], pixels: int, aspect: float, epochs: int) -> Config:
    """Config of a YOLOv4-P5 of a quarter of the width, or a YOLOX-nano, which trains on a CPU in minutes.

    Training images are whole, in their own `aspect` (height to width), as mosaics would shrink small objects
    further. Small batches at a high rate suit training from random weights, which needs many updates.
    """
    cfg = base()
    if family == "yolov4":
        # Anchors for frames of 384 pixels instead of 896.
        anchors = tuple(tuple((w / 2, h / 2) for w, h in level) for level in YOLOV4_SIZES["p5"]["anchors"])
        cfg.model = yolov4("p5", len(classes), width=0.25, depth=0.34, anchors=anchors, min_score=0.01)
        cfg.data = yolov4_images(pixels, 32, classes, batch_size=4)
        cfg.data.pad = 0.0  # training images have no border either
    else:
        cfg.model = yolox("nano", len(classes))
        cfg.data = yolox_images(pixels, classes, batch_size=4)
    cfg.data.recipe, cfg.data.aspect = "plain", aspect
    cfg.data.max_boxes = 64
    cfg.data.cache = 5000
    cfg.optim = adamw(lr=2e-3, weight_decay=0.05)
    by_epochs(cfg, epochs, every=1)
    return cfg
