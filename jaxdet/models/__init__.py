"""Detectors: HMNet, YOLOv4 and YOLOX behind one interface."""

from flax import nnx

from jaxdet.errors import InputError
from jaxdet.models.detector import Detector
from jaxdet.models.hmnet import hmnet
from jaxdet.models.yolov4 import yolov4
from jaxdet.models.yolox import yolox

_MODELS = {"hmnet": hmnet, "yolov4": yolov4, "yolox": yolox}


def build(name: str, *, rngs: nnx.Rngs, **kwargs) -> Detector:
    """An initialised detector; `kwargs` are those of the family's function in this module."""
    if name not in _MODELS:
        raise InputError(f"model {name!r} is unknown; choose one of {', '.join(_MODELS)}")
    return _MODELS[name](rngs=rngs, **kwargs)
