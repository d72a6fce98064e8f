"""Fine-tuning of YOLOX on your own images: train --config=images:<nano|tiny|s|m|l|x> --data=mine --init=coco

--data says splits and classes: a data.yaml, COCO annotations or a folder. A few dozen images are enough to
begin with; for thousands raise data.batch_size.
"""

from jaxdet import config as c


def get_config(arg: str = "nano"):
    (size,) = c.parse(arg, c.YOLOX_SIZES)
    cfg = c.base()
    cfg.model = c.yolox(size, 1)
    # The class is a place holder: --data names them.
    cfg.data = c.yolox_images(416 if size in ("nano", "tiny") else 640, ("object",), batch_size=4)
    cfg.data.recipe, cfg.data.plain_epochs, cfg.data.cache = "finetune", 10, 2000
    cfg.optim = c.adamw(lr=5e-4, weight_decay=0.01)
    c.by_epochs(cfg, 30, every=10)
    return cfg
