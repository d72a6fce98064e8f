"""YOLOX on COCO: evaluate and train --config=configs/coco_yolox.py:<nano|tiny|s|m|l|x>

For another data set give --config.data.root=DIR --config.data.train_split=SPLIT
--config.data.classes="('a','b')" --config.model.num_classes=2. SPLIT is a folder or .txt list of images with
YOLO labels, or FILE.json:FOLDER.
"""

from jaxdet import class_names
from jaxdet import config as c


def get_config(arg: str = "s"):
    (size,) = c.parse(arg, c.YOLOX_SIZES)
    cfg = c.base()
    cfg.model = c.yolox(size, len(class_names.COCO))
    pixels = 416 if size in ("nano", "tiny") else 640
    cfg.data = c.yolox_images(pixels, class_names.COCO, batch_size=16)
    cfg.data.update(c.COCO_SPLITS)
    cfg.data.plain_epochs = 15
    cfg.optim = c.sgd_yolox()
    c.by_epochs(cfg, 300)
    return cfg
