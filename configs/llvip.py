"""YOLOX and YOLOv4 on the infrared images of LLVIP: train --config=llvip:<nano|tiny|s|m|l|x|p5|p6|p7>

LLVIP has no validation split, so validation is on the test split, as papers do; choose no checkpoint by it.
"""

from jaxdet import class_names
from jaxdet import config as c


def get_config(arg: str = "s"):
    return c.annotated_images(
        arg,
        class_names.LLVIP,
        root="data/llvip",
        splits=("infrared_train", "infrared_test", "infrared_test"),
        pixels=1280,
        epochs=50,
    )
