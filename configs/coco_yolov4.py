"""Scaled-YOLOv4 on COCO as released: evaluate --config=configs/coco_yolov4.py:<csp|p5|p6|p7>"""

from jaxdet import config as c

# The sizes of the released evaluation (Wang et al. 2021, table 9).
PIXELS = {"csp": 640, "p5": 896, "p6": 1280, "p7": 1536}


def get_config(arg: str = "p6"):
    (size,) = c.parse(arg, c.YOLOV4_SIZES)
    cfg = c.base()
    cfg.model = c.yolov4(size, len(c.COCO_CLASSES), min_score=0.001, nms_iou=0.65)
    stride = 2 << (len(cfg.model.stages) - 1)
    cfg.data = c.yolov4_images(PIXELS[size], stride, c.COCO_CLASSES, batch_size=8)
    return cfg
