"""Detectors: HMNet, YOLOv4 and YOLOX behind one interface, and the table of those that configs can name."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from flax import nnx

from jaxdet.errors import InputError
from jaxdet.models.detector import Detector
from jaxdet.models.hmnet import hmnet
from jaxdet.models.yolov4 import yolov4
from jaxdet.models.yolox import yolox


class Entry(NamedTuple):
    """A model that a config can name; the names of its loss terms are an attribute of its head."""

    # Its keyword arguments are those of the config's `model` block, and `rngs`.
    build: Callable[..., Detector]
    reads: Literal["events", "images"]  # models of events also take `geometry` and `warm_up_once`


MODELS = {
    "hmnet": Entry(hmnet, "events"),
    "yolov4": Entry(yolov4, "images"),
    "yolox": Entry(yolox, "images"),
}


def entry(name: str) -> Entry:
    """The row of `MODELS`; InputError for a name that is not there."""
    if name not in MODELS:
        raise InputError(f"model {name!r} is unknown; choose one of {', '.join(MODELS)}")
    return MODELS[name]


def build(name: str, *, rngs: nnx.Rngs, **kwargs) -> Detector:
    """An initialised detector; `kwargs` are those of the model's function in `MODELS`."""
    return entry(name).build(rngs=rngs, **kwargs)
