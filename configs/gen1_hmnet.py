"""HMNet on GEN1: train --config=configs/gen1_hmnet.py:<b1|l1|b3|l3>,<short|tbptt>"""

from jaxdet import config as c


def get_config(arg: str = "b3,short"):
    if "," not in arg:
        arg += ",short"  # evaluation and conversion do not depend on the stage
    size, stage = c.parse(arg, c.HMNET_SIZES, c.GEN1_STAGES)
    cfg = c.base()
    cfg.model = c.hmnet(size, num_classes=2)
    cfg.data = c.gen1(stage=stage, batch_size=16)
    cfg.optim = c.adamw(lr=2e-4, weight_decay=0.01)
    cfg.train.num_iterations = c.GEN1_STAGES[stage]["num_iterations"]
    cfg.train.iterations_per_epoch = c.GEN1_ITERATIONS_PER_EPOCH
    cfg.train.log_every = c.GEN1_STAGES[stage]["log_every"]
    return cfg
