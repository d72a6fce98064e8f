"""YOLOX and YOLOv4 on LTDv2, thermal surveillance: train --config=ltdv2:<nano|tiny|s|m|l|x|p5|p6|p7>

The labels of the test split are not published; the split that is evaluated is the validation split.
"""

from jaxdet import class_names
from jaxdet import config as c


def get_config(arg: str = "s"):
    return c.annotated_images(
        arg,
        class_names.LTDV2,
        root="data/ltdv2",
        splits=("train", "val", "val"),
        pixels=640,
        epochs=30,
    )
