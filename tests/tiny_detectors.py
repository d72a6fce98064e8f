"""Configs of detectors that compile in seconds."""

import sys
from contextlib import AbstractContextManager
from unittest import mock

from jaxdet import config as c
from jaxdet.models import from_config

YOLOV4 = {
    "stages": ((16, 0), (32, 1), (32, 1), (64, 1)),
    "neck": (32, 32),
    "neck_depths": (1, 1),
    "anchors": (((8, 10), (14, 14)), ((20, 24), (40, 40))),
}


def get_config(family):
    """A detector of 64 by 64 pixels; HMNet has memories that fire every step and every third."""
    if family == "hmnet":
        cfg = c.synthetic()
        memories = {"widths": (16, 16), "num_heads": (1, 1), "depths": (1, 1), "periods": (1, 3)}
        cfg.model = c.hmnet("b1", 2, **memories, out_features=16, event_features=4)
        cfg.model.image_size = (64, 64)
        cfg.data.height = cfg.data.width = 64
        return cfg
    if family == "yolox":
        cfg = c.block(model=c.yolox("nano", 2, width=0.125, depth=0.33, depthwise=False))
        cfg.data = c.yolox_images(64, ("dark", "bright"), batch_size=2)
        return cfg
    cfg = c.block(model=c.yolov4("p5", 2, **YOLOV4, stem=8, width=0.5, min_score=0.01))
    cfg.data = c.yolov4_images(64, 16, ("dark", "bright"), batch_size=2)
    return cfg


def finest_level_only() -> AbstractContextManager:
    """Within, HMNets of one memory have a single level: the other two are most of what is compiled."""
    # The name of the module in its package is that of the function.
    return mock.patch.object(sys.modules["jaxdet.models.hmnet"], "_NUM_LEVELS", 1)


def one_level(cfg):
    """The HMNet of `cfg` with its finest level only."""
    with finest_level_only():
        return from_config.build(cfg, 0)
