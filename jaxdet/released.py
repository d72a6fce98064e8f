"""Config of a released model from its file alone, with a list of what was assumed."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jaxdet import class_names
from jaxdet import config as c
from jaxdet.errors import InputError
from jaxdet.models.yolov4 import scale_channels
from jaxdet.ops.resize import grids_of
from jaxdet.weights.identify import Identity

FAMILIES = {"hmnet": "HMNet", "yolox": "YOLOX", "yolov4": "YOLOv4"}

# Cells of the first memory -> height and width of the sensor.
_SENSORS = {4560: (240, 304)}
# Pixels per side of a cell in the released models.
_CELL = 4

# Pixels of the longer side at which the released YOLOv4 are evaluated (Wang et al. 2021, table 9).
_YOLOV4_PIXELS = {"csp": 640, "p5": 896, "p6": 1280, "p7": 1536}

_COCO = (class_names.COCO, "those of COCO")
_CLASSES = {
    ("hmnet", 2): (class_names.GEN1, "those of GEN1"),
    ("yolox", 80): _COCO,
    ("yolov4", 80): _COCO,
    ("yolov4", 4): (class_names.LTD, "those of LTD"),
}


@dataclass(frozen=True)
class Released:
    """A config with `model` and `data`, the name of a published size or None, and what was assumed.

    `guessed` has a sentence for each value that comes from a table or a default and not from the file.
    """

    config: c.Config
    size: str | None
    guessed: tuple[str, ...]

    def line(self) -> str:
        """Line for the log: the model that was found, and what was assumed."""
        model = self.config.model
        found = f"{FAMILIES[model.name]}{'-' + self.size if self.size else ''}, {model.num_classes} classes"
        assumed = "; assumed, as the file does not say: " + "; ".join(self.guessed) if self.guessed else ""
        return found + assumed


def config_of(
    identity: Identity,
    sensor: str | Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    size: int | None = None,
) -> Released:
    """Config of an identified model, as the matching file of configs/ gives it.

    `sensor` ("WIDTHxHEIGHT" or (height, width), pixels; HMNet), `classes` (one name for each class) and
    `size` (pixels of an image's longer side; YOLOX and YOLOv4) override the tables. Raises InputError if one
    of them does not fit the file, or if file and tables together do not determine the config.
    """
    if sensor is not None and identity.family != "hmnet":
        raise InputError(f"--model_sensor is for event cameras; {FAMILIES[identity.family]} takes --size")
    if size is not None and identity.family == "hmnet":
        raise InputError("--size is for images; HMNet takes --model_sensor=WIDTHxHEIGHT")
    if size is not None and not 0 < size < 1 << 15:
        raise InputError(f"--size={size}: expected pixels of the longer side, such as 640")
    guessed: list[str] = []
    names = _classes(identity, classes, guessed)
    cfg = c.base()
    if identity.family == "hmnet":
        name, cfg.model, cfg.data = _hmnet(identity, names, sensor, guessed)
    elif identity.family == "yolox":
        name, cfg.model, cfg.data = _yolox(identity, names, size, guessed)
    else:
        name, cfg.model, cfg.data = _yolov4(identity, names, size, guessed)
    return Released(cfg, name, tuple(guessed))


def overrule(
    cfg: c.Config,
    sensor: str | Sequence[int] | None,
    classes: Sequence[str] | None,
    size: int | None,
) -> None:
    """Put the values that are not None into a whole config; see `config_of`. InputError if the model cannot
    take one."""
    with cfg.unlocked(), cfg.data.ignore_type():
        if sensor is not None:
            own = (cfg.data.get("height"), cfg.data.get("width"))
            if height_width(sensor) != own:
                raise InputError(
                    f"--model_sensor={sensor}: the model is of a sensor of {own[1]}x{own[0]} pixels"
                )
        if classes is not None:
            if len(classes) != cfg.model.num_classes:
                raise InputError(
                    f"--classes: {len(classes)} names, the model has {cfg.model.num_classes} classes"
                )
            cfg.data.classes = tuple(classes)
        if size is not None:
            if "size" not in cfg.data:
                raise InputError("--size is for models of images; HMNet takes --model_sensor=WIDTHxHEIGHT")
            cfg.data.size = size


def _classes(identity: Identity, given: Sequence[str] | None, guessed: list[str]) -> tuple[str, ...]:
    """Names of the classes: those given, or else those in the file, of a known data set, or numbers."""
    number = identity.num_classes
    if given is not None:
        names = tuple(given)
        if isinstance(given, str) or len(names) != number or len(set(names)) != number or "" in names:
            raise InputError(
                f"--classes={','.join(names)[:80]}: expected {number} different names, one per class"
            )
        return names
    known, source = _data_set(identity)
    if identity.class_names is not None:
        return known or identity.class_names
    if known:
        shown = ", ".join(known) if number < 10 else f"{known[0]} ... {known[-1]}"
        guessed.append(f"the classes are {source} ({shown})")
        return known
    names = tuple(f"class_{i}" for i in range(number))
    guessed.append(f"the classes are called {names[0]}{' ... ' + names[-1] if number > 1 else ''}")
    return names


def _data_set(identity: Identity) -> tuple[tuple[str, ...], str]:
    """Classes of the data set of released files of this family and class count, and a phrase for it.

    Both are empty if there is none, or if the file names other classes; case is ignored.
    """
    names, source = _CLASSES.get((identity.family, identity.num_classes), ((), ""))
    in_file = identity.class_names
    if in_file is not None and [n.lower() for n in in_file] != [n.lower() for n in names]:
        return (), ""
    return names, source


Blocks = tuple[str | None, c.Config, c.Config]


def _hmnet(identity: Identity, names: tuple[str, ...], sensor, guessed: list[str]) -> Blocks:
    arguments = dict(identity.arguments)
    name = next((n for n, table in c.HMNET_SIZES.items() if arguments == _hmnet_shapes(table)), None)
    if name is None and len(arguments["widths"]) > 1:
        shown = ", ".join(f"{key} {value}" for key, value in arguments.items())
        raise InputError(
            f"an HMNet of {shown} is not one of {', '.join(c.HMNET_SIZES)}; the periods of its memories "
            "are not in the file: give --config"
        )
    (height, width), window = _geometry(identity, sensor, guessed)
    changes = {} if name else arguments
    if window != _CELL:
        changes["window"] = window
    # A single memory fires at every step.
    model = c.hmnet(name or "b1", len(names), image_size=(height, width), **changes)
    if len(model.periods) > 1:
        guessed.append(
            f"the memories fire every {', '.join(map(str, model.periods))} steps, as those of {name}"
        )
    data = c.gen1()
    data.classes, data.height, data.width = names, height, width
    return name, model, data


def _hmnet_shapes(table: dict) -> dict:
    """A row of the table as `Identity.arguments` shows it."""
    shapes = {key: value for key, value in table.items() if key != "periods"}
    return {**shapes, "out_features": 256, "event_features": 32}


def _geometry(identity: Identity, sensor, guessed: list[str]) -> tuple[tuple[int, int], int]:
    """Height and width of the sensor, and the pixels per side of a cell."""
    cells = identity.cells
    assert cells is not None
    if sensor is None:
        if cells not in _SENSORS:
            raise InputError(
                f"an HMNet of {cells} cells; sensors are known for {', '.join(map(str, _SENSORS))}: "
                "give --model_sensor=WIDTHxHEIGHT, or --config"
            )
        height, width = _SENSORS[cells]
        guessed.append(f"the sensor has {width}x{height} pixels, as {cells} cells suggest")
        return (height, width), _CELL
    height, width = height_width(sensor)
    about = math.isqrt(height * width // cells)
    for window in (_CELL, *range(max(about, 1), 2 * about + 2)):
        if _num_cells(height, width, window) == cells:
            return (height, width), window
    of_four = f"{_num_cells(height, width, _CELL)} cells of {_CELL} pixels"
    raise InputError(
        f"--model_sensor={width}x{height} has {of_four} a side, the file {cells} cells; give its own sensor"
    )


def _num_cells(height: int, width: int, window: int) -> int:
    rows, columns = grids_of((height, width), window, 1)[0]
    return rows * columns


def height_width(sensor: str | Sequence[int]) -> tuple[int, int]:
    """Height and width from "WIDTHxHEIGHT" or (height, width); InputError for anything else."""
    if isinstance(sensor, str):
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", sensor)
        if match is None:
            raise InputError(f"a size of {sensor[:40]!r} pixels; expected WIDTHxHEIGHT, such as 304x240")
        return int(match[2]), int(match[1])
    if len(sensor) != 2 or any(int(n) != n or n < 1 for n in sensor):
        raise InputError(f"sensor {tuple(sensor)}: expected (height, width), pixels")
    return int(sensor[0]), int(sensor[1])


def _yolox(identity: Identity, names: tuple[str, ...], size: int | None, guessed: list[str]) -> Blocks:
    arguments = identity.arguments
    found = tuple(arguments.values())
    name = next((n for n, table in c.YOLOX_SIZES.items() if found == _yolox_shapes(**table)), None)
    model = c.yolox(name, len(names)) if name else c.yolox("s", len(names), **arguments)
    if size is None:
        size = 416 if name in ("nano", "tiny") else 640
        guessed.append(f"images are predicted at {size} pixels, as released")
    data = c.yolox_images(size, names, batch_size=16)
    data.plain_epochs = 15
    if names == class_names.COCO:
        data.update(c.COCO_SPLITS)
    return name, model, data


def _yolox_shapes(width: float, depth: float, depthwise: bool = False) -> tuple[float, float, bool]:
    """A row of the table as `Identity.arguments` shows it."""
    return int(64 * width) / 64, round(3 * depth) / 3, depthwise


def _yolov4(identity: Identity, names: tuple[str, ...], size: int | None, guessed: list[str]) -> Blocks:
    ltd = _data_set(identity)[0] == class_names.LTD
    thresholds = {"min_score": 0.1, "nms_iou": 0.5} if ltd else {"min_score": 0.001, "nms_iou": 0.65}
    arguments = dict(identity.arguments)
    anchors = arguments.pop("anchors")
    name = next((n for n in c.YOLOV4_SIZES if arguments == _yolov4_shapes(n)), None)
    anchors_of = next(_same_anchors(anchors), None)
    changes = {} if name else arguments
    if name is None or anchors_of != name:
        changes["anchors"] = anchors
    model: c.Config = c.yolov4(name or "p5", len(names), **changes, **thresholds)
    if size is None:
        known = name or anchors_of
        if known is None:
            shown = f"{len(arguments['stages'])} stages and {len(anchors)} levels"
            raise InputError(
                f"a YOLOv4 of {shown} is not one of {', '.join(c.YOLOV4_SIZES)}; the size of its images "
                "is not in the file: give --size=PIXELS, or --config"
            )
        size = _YOLOV4_PIXELS[known]
        guessed.append(f"images are predicted at {size} pixels, as {known}")
    source = "on LTD" if ltd else "on COCO"
    guessed.append(
        f"scores from {thresholds['min_score']} and NMS at IoU {thresholds['nms_iou']}, as released {source}"
    )
    stride = 2 << (len(model.stages) - 1)
    data = c.yolov4_images(size, stride, names, batch_size=32 if ltd else 8)
    if names == class_names.LTD:
        data.update(c.ltd_splits())
    elif names == class_names.COCO:
        data.update(c.COCO_SPLITS)
    return name, model, data


def _yolov4_shapes(name: str) -> dict:
    """A row of the table as `Identity.arguments` shows it, without anchors."""
    table: c.Config = c.yolov4(name, 1)
    width = table.get("width", 1.0)
    return {
        "stem": scale_channels(table.stem, width),
        "stages": tuple((scale_channels(channels, width), depth) for channels, depth in table.stages),
        "neck": tuple(scale_channels(channels, width) for channels in table.neck),
        "neck_depths": tuple(table.get("neck_depths", (3, 3))),
    }


def _same_anchors(anchors) -> Iterator[str]:
    """Names of sizes with these anchors, up to rounding by the averaging of weights."""
    for name, table in c.YOLOV4_SIZES.items():
        shape, known = np.shape(table["anchors"]), np.asarray(table["anchors"], np.float64)
        if np.shape(anchors) == shape and np.allclose(np.asarray(anchors), known, rtol=1e-4, atol=0):
            yield name
