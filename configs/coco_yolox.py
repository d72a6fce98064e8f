"""YOLOX on COCO as released: evaluate --config=configs/coco_yolox.py:<nano|tiny|s|m|l|x>"""

from jaxdet import config as c


def get_config(arg: str = "s"):
    (size,) = c.parse(arg, c.YOLOX_SIZES)
    cfg = c.base()
    cfg.model = c.yolox(size, len(c.COCO_CLASSES))
    pixels = 416 if size in ("nano", "tiny") else 640
    cfg.data = c.yolox_images(pixels, c.COCO_CLASSES, batch_size=16)
    return cfg
