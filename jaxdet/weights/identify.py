"""The model that a released state dict belongs to, read from its keys and shapes.

Nothing is looked up here: `jaxdet.released` adds what a file does not hold: size, sensor, classes.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxdet.errors import InputError
from jaxdet.weights import yolov4
from jaxdet.weights.rules import StateDict
from jaxdet.weights.torch.state_dict import Contents

_MAX_NAME = 100  # characters of a class
_MAX_ANCHORS = 100  # of a level


@dataclass(frozen=True)
class Identity:
    """A model as its file shows it.

    `arguments` are those keyword arguments of the family's model that follow from the file, with the channels
    of YOLOv4 as they are (a width multiple of 1). `cells` is the number of cells of HMNet's first memory;
    `class_names` are the names that a pickled model brings along. Both are None where the file does not say.
    """

    family: str
    num_classes: int
    arguments: Mapping[str, Any]
    cells: int | None = None
    class_names: tuple[str, ...] | None = None

    @property
    def anchors(self) -> tuple[tuple[tuple[float, float], ...], ...] | None:
        """Anchors of YOLOv4, [levels][anchors][2], pixels; None for the families that have none."""
        return self.arguments.get("anchors")


def identify(contents: Contents) -> Identity:
    """Family, class count and model arguments of the state dict in `contents`.

    Raises InputError, in one line, if it belongs to no family, to two, or to a network that jaxdet lacks.
    """
    state = contents.state_dict
    found = [(f, key) for f in _FAMILIES if (key := next(filter(f.mark.fullmatch, state), None)) is not None]
    if not found:
        tried = ", ".join(f"{f.name} ({f.example})" for f in _FAMILIES)
        raise InputError(
            f"{len(state)} tensors of no known family (first {next(iter(state), '')[:60]!r}); "
            f"looked for a key of {tried}; give the file of one of these"
        )
    if len(found) > 1:
        shown = " and ".join(f"{f.name} ({key})" for f, key in found)
        raise InputError(f"the state dict has keys of {shown}; expected those of one model")
    ((family, key),) = found
    return family.read(_Shapes(state, family.name), key, contents.extras)


class _Shapes:
    """Shapes of a state dict by key; what is missing or of another rank is an InputError."""

    def __init__(self, state: StateDict, family: str):
        self.state, self.family = state, family

    def __call__(self, key: str, rank: int) -> tuple[int, ...]:
        if key not in self.state:
            raise self.error(f"has no {key}")
        shape = self.state[key].shape
        if len(shape) != rank or 0 in shape:
            raise self.error(f"has {key} of shape {list(shape)}, expected {rank} axes")
        return shape

    def count(self, prefix: str) -> int:
        """Number of different numbers that follow `prefix` in a key."""
        found = {
            number
            for key in self.state
            if key.startswith(prefix) and (number := key[len(prefix) :].partition(".")[0]).isdigit()
        }
        return len(found)

    def error(self, found: str) -> InputError:
        return InputError(
            f"the file looks like {self.family} but {found}; give --config if its network is described by one"
        )


def _hmnet(shapes: _Shapes, _mark: str, _extras: Mapping[str, Any]) -> Identity:
    number = 1
    while f"backbone.memory{number + 1}.init_latent" in shapes.state:
        number += 1
    memories = [f"backbone.memory{i + 1}" for i in range(number)]
    latents = [shapes(f"{memory}.init_latent", 3) for memory in memories]
    bias = "write_bottom_up.attn.relative_position_bias.position_embedding_table"
    heads = [
        shapes("backbone.memory1.write_bottom_up.attn.dustbin_weights", 1)[0],
        *(shapes(f"{memory}.{bias}", 3)[2] for memory in memories[1:]),
    ]
    for branch in ("cls_conv", "reg_conv"):
        if (convolutions := shapes.count(f"bbox_head.levels.0.{branch}.")) != 2:
            raise InputError(
                f"the HMNet of this file has {convolutions} convolutions in bbox_head.levels.0.{branch}, "
                "expected 2; no --config describes such a head"
            )
    arguments = {
        "widths": tuple(latent[2] for latent in latents),
        "num_heads": tuple(heads),
        "depths": tuple(shapes.count(f"{memory}.update.") for memory in memories),
        "out_features": shapes("backbone.memory1.proj_out.linear.weight", 2)[0],
        "event_features": shapes("backbone.memory1.embed.xy.embed.0.linear.weight", 2)[0],
    }
    classes = shapes("bbox_head.levels.0.cls_pred.weight", 4)[0]
    return Identity("hmnet", classes, arguments, cells=latents[0][1])


def _yolox(shapes: _Shapes, stem: str, _extras: Mapping[str, Any]) -> Identity:
    arguments = {
        # At multiples of 1 the stem has 64 channels and a block of the neck 3 bottlenecks.
        "width": shapes(stem, 4)[0] / 64,
        "depth": shapes.count("backbone.C3_p4.m.") / 3,
        "depthwise": any(".dconv." in key for key in shapes.state),
    }
    return Identity("yolox", shapes("head.cls_preds.0.weight", 4)[0], arguments)


def _yolov4(shapes: _Shapes, grid: str, extras: Mapping[str, Any]) -> Identity:
    head = grid.removesuffix(".anchor_grid")
    levels = _yolov4_levels(shapes, head)
    stages, key_of = _yolov4_layers(shapes, int(head.removeprefix("model.")), levels)

    def width(path: str, name: str) -> int:
        return shapes(f"{key_of[path]}.{name}conv.weight", 4)[0]

    def depth(path: str) -> int:
        return shapes.count(f"{key_of[path]}.m.")

    steps = range(levels - 1)
    merges = [
        {depth(f"neck.{way}.{i}.merge") for i in steps} or {3}  # one level has no merges: any number will do
        for way in ("top_down", "bottom_up")
    ]
    if any(len(depths) != 1 for depths in merges):
        raise shapes.error("has blocks of unequal depth in one direction of its neck")
    found = yolov4.head_of(shapes.state)
    if found is None:
        raise shapes.error("has two detection layers (model.N.anchor_grid)")
    stage = "backbone.stages.{}.{}".format
    arguments = {
        "stem": width("backbone.stem", "") if "backbone.stem" in key_of else 0,
        "stages": tuple((width(stage(i, "down"), ""), depth(stage(i, "block"))) for i in range(stages)),
        "neck": (*(width(f"neck.top_down.{i}.merge", "cv3.") for i in steps), width("neck.spp", "cv7.")),
        "neck_depths": tuple(depths.pop() for depths in merges),
        "anchors": tuple(tuple((w, h) for w, h in level) for level in found[1]),
    }
    return Identity("yolov4", found[0], arguments, class_names=_names(extras, found[0]))


def _yolov4_levels(shapes: _Shapes, head: str) -> int:
    """Number of levels of a detection layer whose anchors and outputs agree."""
    levels, one, num_anchors, *rest = shapes(f"{head}.anchor_grid", 6)
    fits = levels == shapes.count(f"{head}.m.") and num_anchors <= _MAX_ANCHORS
    if not fits or [one, *rest] != [1, 1, 1, 2]:
        raise shapes.error(
            f"has {head}.anchor_grid that does not fit its {shapes.count(f'{head}.m.')} levels"
        )
    anchors = shapes.state[f"{head}.anchor_grid"]
    if not (np.isfinite(anchors) & (anchors > 0)).all():
        raise shapes.error(f"has {head}.anchor_grid that holds no widths and heights")
    (outputs,) = shapes(f"{head}.m.0.bias", 1)
    if outputs % num_anchors or outputs // num_anchors <= 5:
        raise shapes.error(f"has {outputs} outputs for {num_anchors} anchors")
    return levels


def _yolov4_layers(shapes: _Shapes, last: int, levels: int) -> tuple[int, dict[str, str]]:
    """Number of stages, and the key prefix of the layer at every module path."""
    spp = [i for i in range(last) if f"model.{i}.cv7.conv.weight" in shapes.state]
    if len(spp) != 1:
        raise shapes.error(f"has {len(spp)} layers of pyramid pooling (model.N.cv7), expected 1")
    # Two layers a stage come before the pooling, and perhaps a stem.
    stages, stem = divmod(spp[0], 2)
    paths = yolov4.layers(stages, levels, bool(stem))
    weighted = {int(key.split(".")[1]) for key in shapes.state if re.match(r"model\.\d{1,4}\.", key)}
    expected = {i for i, path in enumerate(paths) if path}
    if levels > stages or weighted != expected or last != len(paths) - 1:
        raise shapes.error(f"has weights in {len(weighted)} of {last + 1} layers, expected {len(expected)}")
    return stages, {path: f"model.{i}" for i, path in enumerate(paths) if path}


def _names(extras: Mapping[str, Any], num_classes: int) -> tuple[str, ...] | None:
    """Class names that lie beside a pickled model; None if there are none, or only numbers."""
    names = extras.get("names")
    if not isinstance(names, list) or len(names) != num_classes:
        return None
    usable = all(isinstance(n, str) and 0 < len(n) <= _MAX_NAME and n.isprintable() for n in names)
    if not usable or len(set(names)) != num_classes or all(n.isdecimal() for n in names):
        return None
    return tuple(names)


class _Family(NamedTuple):
    """A family, a key found in all its state dicts and in none of the others', and its reader."""

    name: str
    mark: re.Pattern
    example: str
    read: Callable[[_Shapes, str, Mapping[str, Any]], Identity]


_HMNET_KEY = "backbone.memory1.init_latent"
_YOLOX_KEY = "backbone.backbone.stem.conv.conv.weight"
_FAMILIES = (
    _Family("HMNet", re.compile(re.escape(_HMNET_KEY)), _HMNET_KEY, _hmnet),
    _Family("YOLOX", re.compile(re.escape(_YOLOX_KEY)), _YOLOX_KEY, _yolox),
    _Family("YOLOv4", re.compile(r"model\.\d{1,4}\.anchor_grid"), "model.N.anchor_grid", _yolov4),
)
