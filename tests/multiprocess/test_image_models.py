"""An image model with batch normalisation trains alike on one device and on four, in float64.

Batch statistics and the number of positives that divides the loss are those of the whole batch wherever its
images lie.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yolo_models
import yolo_training

from jaxdet import config, sharding
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.training import recipe as recipes
from jaxdet.training import state
from jaxdet.training.step import make_train_step

STEPS, BATCH, SIDE = 20, 4, 64


def _config(family):
    cfg = config.base()
    cfg.train.num_iterations, cfg.train.iterations_per_epoch = STEPS, 5
    cfg.data = config.block(batch_size=BATCH, plain_from=10)
    # At the full rate models so small are chaotic, and rounding grows to a millionth and more in twenty
    # updates.
    if family == "yolov4":
        cfg.model = config.block(**{**yolo_models.yolov4_block("tiny"), "dtype": "float64"})
        cfg.optim = config.sgd_yolov4(lr=1e-3)
        cfg.optim.nominal_batch, cfg.optim.warmup_steps, cfg.optim.warmup_bias_lr = BATCH, 4, 1e-2
    else:
        cfg.model = config.yolox("nano", 4, dtype="float64", width=0.125)
        cfg.optim = config.sgd_yolox(lr=1e-5)
    return cfg


def _batch(step):
    """Images with unequal numbers of boxes, so that a mean over devices is not the mean over images."""
    rng = np.random.default_rng(step)
    image = np.repeat(np.arange(BATCH), [0, 1, 2, 5])
    boxes = np.concatenate([rng.uniform(16, 48, (8, 2)), rng.uniform(8, 30, (8, 2))], 1)
    pixels = rng.integers(0, 255, (BATCH, SIDE, SIDE, 3)).astype(np.uint8)
    return yolo_training.batch_of(pixels, image, rng.integers(0, 4, 8), boxes, room=8)


def _train(family, devices):
    cfg = _config(family)
    mesh, recipe = sharding.make_mesh(BATCH, jax.devices()[:devices]), recipes.make(cfg)
    skeleton, variables = functional.split(from_config.build(cfg, 0))
    current = state.create(variables, recipe.optimizer, recipe.averaging is not None)
    current = jax.tree.map(lambda a: sharding.place(a, sharding.replicated(mesh)), current)
    step = jax.jit(make_train_step(skeleton, recipe), out_shardings=sharding.replicated(mesh))
    losses = []
    for i in range(STEPS):
        current, _, metrics = step(current, (), sharding.to_global(_batch(i), mesh))
        losses.append(float(metrics["loss"]))
    return np.array(losses), jax.tree.map(np.asarray, current)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["yolov4", "yolox"])
def test_twenty_updates_on_one_device_and_on_four_agree(family):
    with jax.enable_x64(True):
        (one, state_one), (four, state_four) = _train(family, 1), _train(family, 4)
    assert one.dtype == np.float64
    assert np.ptp(one) > 1e-3
    np.testing.assert_allclose(four, one, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(state_one), jax.tree.leaves(state_four), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-9)
    kernels = [a for a in jax.tree.leaves(state_one.params) if jnp.issubdtype(a.dtype, jnp.floating)]
    assert all(a.dtype == np.float64 for a in kernels)
