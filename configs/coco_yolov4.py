"""Scaled-YOLOv4 on COCO: evaluate and train --config=configs/coco_yolov4.py:<csp|p5|p6|p7>

For another data set give --config.data.root=DIR --config.data.train_split=SPLIT
--config.data.classes="('a','b')" --config.model.num_classes=2. SPLIT is a folder or .txt list of images with
YOLO labels, or FILE.json:FOLDER.
"""

from jaxdet import class_names
from jaxdet import config as c

# The sizes of the released evaluation (Wang et al. 2021, table 9).
PIXELS = {"csp": 640, "p5": 896, "p6": 1280, "p7": 1536}


def get_config(arg: str = "p6"):
    (size,) = c.parse(arg, c.YOLOV4_SIZES)
    cfg = c.base()
    cfg.model = c.yolov4(size, len(class_names.COCO), min_score=0.001, nms_iou=0.65)
    stride = 2 << (len(cfg.model.stages) - 1)
    cfg.data = c.yolov4_images(PIXELS[size], stride, class_names.COCO, batch_size=8)
    cfg.data.update(c.COCO_SPLITS)
    cfg.optim = c.sgd_yolov4()
    c.by_epochs(cfg, 300)
    return cfg
