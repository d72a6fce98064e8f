"""A small YOLOX on thermal frames, as a config file of version 0.1.0 says it."""

from jaxdet import config as c


def get_config():
    cfg = c.base()
    cfg.model = c.yolox("nano", len(c.LTD_CLASSES), width=0.015625)
    cfg.data = c.yolox_images(64, c.LTD_CLASSES, batch_size=2, root="frames")
    cfg.data.train_split = "Day/all.txt"
    cfg.data.validation_split = cfg.data.test_split = "Sep/images"
    cfg.data.plain_epochs = 1
    cfg.optim = c.sgd_yolox()
    cfg.optim.nominal_batch = 4
    cfg.train.epochs = 3  # of one step
    cfg.train.log_every = 1
    cfg.train.checkpoint_epochs = 1
    cfg.train.keep = 1
    return cfg
