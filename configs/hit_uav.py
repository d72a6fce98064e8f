"""Small detectors on HIT-UAV, thermal images from the air: train --config=configs/hit_uav.py:<yolov4|yolox>

`data.root` holds a folder per split with images/ and annotations.json (COCO). The detectors are those of
synthetic_ltd.py.
"""

from jaxdet import config as c


def get_config(arg: str = "yolox"):
    (family,) = c.parse(arg, ("yolov4", "yolox"))
    cfg = c.small_images(
        family, ("Person", "Car", "Bicycle", "OtherVehicle"), pixels=640, aspect=512 / 640, epochs=20
    )
    cfg.data.root = "data/hit_uav"
    cfg.data.train_split = "train/annotations.json"
    cfg.data.validation_split = "val/annotations.json"
    cfg.data.test_split = "test/annotations.json"
    return cfg
