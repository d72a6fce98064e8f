"""Small detectors on simulated thermal clips: train --config=configs/synthetic_ltd.py:<yolov4|yolox>

Training takes half an hour on a CPU.
"""

from jaxdet import class_names
from jaxdet import config as c

EPOCHS = {"yolov4": 3, "yolox": 5}


def get_config(arg: str = "yolox"):
    (family,) = c.parse(arg, EPOCHS)
    cfg = c.small_images(family, class_names.LTD, pixels=384, aspect=288 / 384, epochs=EPOCHS[family])
    cfg.data.root = "data/synthetic_ltd"
    cfg.data.train_split, cfg.data.validation_split, cfg.data.test_split = "train.txt", "val.txt", "test.txt"
    return cfg
