"""YOLOX on thermal frames of LTD: train --config=configs/ltd_yolox.py:<nano|tiny|s|m|l|x>[,SPLIT,LIST]

SPLIT is Day, Week or Month, LIST a frame list of `prepare ltd`: ltd_yolox.py:s,Week,e5
"""

from jaxdet import class_names
from jaxdet import config as c

PIXELS = 1280


def get_config(arg: str = "s"):
    size, *frames = c.parse(arg, c.YOLOX_SIZES, *c.LTD_FRAMES[: arg.count(",")])
    cfg = c.base()
    cfg.model = c.yolox(size, len(class_names.LTD))
    cfg.data = c.yolox_images(PIXELS, class_names.LTD, batch_size=32)
    cfg.data.update(c.ltd_splits(*frames))
    cfg.data.plain_epochs = 15
    cfg.optim = c.sgd_yolox()
    c.by_epochs(cfg, 100)
    return cfg
