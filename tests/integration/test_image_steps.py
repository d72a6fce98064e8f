"""Training steps of small image detectors: they learn one batch by heart, and a stop changes nothing."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yolo_training import yolov4_batch

from jaxdet import config
from jaxdet.evaluation import coco
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.training import recipe as recipes
from jaxdet.training import state
from jaxdet.training.checkpoint import RunCheckpoints
from jaxdet.training.step import make_train_step

pytestmark = pytest.mark.slow

# At 600 some rounding of some seed leaves a box behind.
NUM_STEPS = 1000
CLASSES = ("square", "bar")


def yolov4_config():
    """Two levels, blocks of one bottleneck; two batches of two images make an update after warm-up."""
    cfg = config.base()
    cfg.model = config.block(
        name="yolov4",
        num_classes=2,
        stem=0,
        stages=((16, 0), (16, 1), (32, 1), (32, 1)),
        neck=(16, 16),
        neck_depths=(1, 1),
        anchors=(((13, 17), (31, 25)), ((28, 50), (60, 30))),
    )
    cfg.optim = config.sgd_yolov4()
    cfg.optim.warmup_epochs, cfg.optim.warmup_steps = 0, 40
    cfg.optim.nominal_batch, cfg.optim.ema_decay, cfg.optim.ema_ramp = 4, 0.95, 10.0
    return _scheduled(cfg)


def yolox_config():
    """AdamW, whose rate ends near 0: the released one ends at a twentieth, where some boxes still come and
    go."""
    cfg = config.base()
    cfg.model = config.block(name="yolox", num_classes=2, width=0.125, depth=0.33)
    cfg.optim = config.adamw(lr=0.002, weight_decay=0.01)
    return _scheduled(cfg)


def _scheduled(cfg):
    cfg.data = config.block(batch_size=2)
    cfg.train.iterations_per_epoch, cfg.train.num_iterations = 10, NUM_STEPS
    return cfg


@cache
def prepared(make):
    """Skeleton, first state and compiled step."""
    cfg = make()
    recipe = recipes.make(cfg)
    skeleton, variables = functional.split(from_config.build(cfg, 0))
    first = state.create(variables, recipe.optimizer, ema=recipe.averaging is not None)
    return skeleton, first, jax.jit(make_train_step(skeleton, recipe))


ROWS = np.array(
    [
        # image, class, cx, cy, w, h in fractions of the image
        [0, 0, 0.25, 0.40, 0.20, 0.30],
        [0, 1, 0.70, 0.60, 0.40, 0.25],
        [1, 1, 0.40, 0.25, 0.50, 0.30],
        [1, 0, 0.75, 0.70, 0.25, 0.40],
    ],
    np.float32,
)


def one_batch(height=64, width=96, noise=35):
    """Squares are bright, bars dark, on noise of that many grey levels."""
    shape = (2, height, width, 3)
    pixels = np.random.default_rng(0).uniform(125 - noise, 125 + noise, shape).astype(np.float32)
    for image, label, cx, cy, w, h in ROWS:
        sides = width * (cx - w / 2), width * (cx + w / 2), height * (cy - h / 2), height * (cy + h / 2)
        x1, x2, y1, y2 = (round(float(v)) for v in sides)
        pixels[int(image), y1:y2, x1:x2] = 20 if label else 230
    return yolov4_batch(pixels, ROWS)


def average_precision(skeleton, variables, batch):
    """AP50 of detections above a score of 0.1."""
    detector = functional.merge(skeleton, variables)
    found, _ = jax.jit(detector.predict)(batch.inputs, batch.targets.at_step, batch.reset, ())
    keep = np.asarray(found.det_mask & (found.scores > 0.1))
    image = np.nonzero(keep)[0]
    boxes = np.asarray(found.boxes)[keep]
    table = coco.table(image, _xywh(boxes), np.asarray(found.labels)[keep], np.asarray(found.scores)[keep])
    mask = np.asarray(batch.targets.box_mask)
    truth = coco.table(
        np.nonzero(mask)[0],
        _xywh(np.asarray(batch.targets.boxes)[mask]),
        np.asarray(batch.targets.labels)[mask],
    )
    return coco.average_precision(truth, table, 2, CLASSES).ap50_per_class


def _xywh(boxes):
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], -1)


@pytest.mark.parametrize(
    ("make", "part", "scene"),
    [
        (yolov4_config, "loss_box", (64, 96, 35)),
        # Five levels of halving: on smaller images the variance of a dozen cells, which training takes as it
        # is and tracks without bias, makes another detector of the learnt one.
        (yolox_config, "loss_iou", (192, 256, 10)),
    ],
    ids=["yolov4", "yolox"],
)
def test_one_batch_is_learnt_by_heart(make, part, scene):
    skeleton, current, step = prepared(make)
    batch = one_batch(*scene)
    losses = []
    for _ in range(NUM_STEPS):
        current, _, metrics = step(current, (), batch)
        losses.append(float(metrics[part]))
    assert losses[-1] < 0.05 * losses[0], losses[:: NUM_STEPS // 10]
    np.testing.assert_array_equal(average_precision(skeleton, state.variables(current), batch), 1)


def test_a_stop_between_two_updates_changes_nothing(tmp_path):
    """Gradients that wait for more, the momentum, the average and its count: all bit for bit."""
    _, first, step = prepared(yolov4_config)
    batch = one_batch()

    def go_on(current, num):
        for _ in range(num):
            current, _, _ = step(current, (), batch)
        return current

    # Warm-up over 40 batches: from batch 20 on, two make an update; batch 25 waits.
    start = first._replace(step=jnp.asarray(22), opt_state=first.opt_state._replace(count=jnp.asarray(22)))
    middle = go_on(start, 4)
    assert any(np.asarray(a).any() for a in jax.tree.leaves(middle.opt_state.total))
    assert int(middle.ema.updates) == 2
    checkpoints = RunCheckpoints(tmp_path, {}, keep=1)
    checkpoints.save(26, middle, ())
    restored, _ = checkpoints.restore(first, ())
    checkpoints.close()
    unbroken, resumed = go_on(middle, 3), go_on(restored, 3)
    assert int(unbroken.ema.updates) == 4
    jax.tree.map(np.testing.assert_array_equal, unbroken, resumed)
