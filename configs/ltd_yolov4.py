"""YOLOv4 on thermal frames of LTD (Seq-YOLO): train --config=configs/ltd_yolov4.py:<p5|p6|p7>[,SPLIT,LIST]

SPLIT is Day, Week or Month, LIST a frame list of `prepare ltd`: ltd_yolov4.py:p6,Day,e10_bic10_mot
"""

from jaxdet import class_names
from jaxdet import config as c

PIXELS = {"p5": 896, "p6": 1280, "p7": 1536}


def get_config(arg: str = "p6"):
    size, *frames = c.parse(arg, PIXELS, *c.LTD_FRAMES[: arg.count(",")])
    cfg = c.base()
    cfg.model = c.yolov4(size, len(class_names.LTD), min_score=0.1, nms_iou=0.5)
    stride = 2 << (len(cfg.model.stages) - 1)
    cfg.data = c.yolov4_images(PIXELS[size], stride, class_names.LTD, batch_size=32)
    cfg.data.update(c.ltd_splits(*frames))
    cfg.optim = c.sgd_yolov4()
    c.by_epochs(cfg, 100)
    return cfg
