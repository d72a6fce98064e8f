"""YOLOX and YOLOv4 on the thermal frames of FLIR ADAS v2: train --config=flir:<nano|tiny|s|m|l|x|p5|p6|p7>

The maker reports YOLOX-m at 640 pixels from COCO weights on the frames of the videos, which are the test
split here: AP50 of person 0.753, of car 0.772.
"""

from jaxdet import class_names
from jaxdet import config as c


def get_config(arg: str = "m"):
    return c.annotated_images(
        arg,
        class_names.FLIR,
        root="data/flir",
        splits=("thermal_train", "thermal_val", "thermal_test"),
        pixels=640,
        epochs=50,
    )
