"""Small detectors on simulated thermal clips, minutes on a CPU: train --config=configs/synthetic_ltd.py:<yolov4|yolox>"""

from jaxdet import config as c


def get_config(arg: str = "yolox"):
    (family,) = c.parse(arg, ("yolov4", "yolox"))
    cfg = c.small_images(family, c.LTD_CLASSES, pixels=384)
    cfg.data.root = "data/synthetic_ltd"
    cfg.data.train_split, cfg.data.validation_split, cfg.data.test_split = "train.txt", "val.txt", "test.txt"
    return cfg
