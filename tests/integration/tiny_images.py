"""Small detectors of images: the config of end-to-end tests."""

from jaxdet import config as c

# A YOLOv4 of four stages and two levels.
YOLOV4 = {
    "stages": ((16, 0), (32, 1), (32, 1), (64, 1)),
    "neck": (32, 32),
    "neck_depths": (1, 1),
    "anchors": (((8, 10), (14, 14)), ((20, 24), (40, 40))),
}


def get_config(arg="yolox"):
    (family,) = c.parse(arg, ("yolov4", "yolox"))
    cfg = c.base()
    names = ("dark", "bright")
    if family == "yolov4":
        cfg.model = c.yolov4("p5", len(names), **YOLOV4, stem=8, width=0.5, min_score=0.01)
        cfg.data = c.yolov4_images(64, 16, names, batch_size=2)
    else:
        cfg.model = c.yolox("nano", len(names), width=0.125, depth=0.33, depthwise=False)
        cfg.data = c.yolox_images(64, names, batch_size=2)
    cfg.data.plain_epochs = 1
    cfg.data.train_split = cfg.data.validation_split = cfg.data.test_split = "images"
    cfg.optim = c.sgd_yolov4() if family == "yolov4" else c.sgd_yolox()
    cfg.optim.nominal_batch = 4
    cfg.train.epochs = 2
    cfg.train.log_every = 1
    cfg.train.checkpoint_epochs = 1
    return cfg
