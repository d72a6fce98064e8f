"""Small YOLO models: initialisation, compute types, padding."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from yolo_models import TINY

from jaxdet import models
from jaxdet.nn import functional
from jaxdet.structs import Images

ANCHORS, CLASSES = 2, 4


def make(**changes):
    return models.build("yolov4", rngs=nnx.Rngs(0), num_classes=CLASSES, **{**TINY, **changes})


@cache
def detector():
    """The small model with fresh weights and a threshold that most boxes pass."""
    return make(min_score=1e-6)


def pixels(batch):
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (batch, 64, 64, 3)), jnp.uint8)


def test_fresh_model_expects_few_objects_and_has_seen_zeros():
    model = detector()
    for pred, stride in zip(model.head.preds, (8, 16), strict=True):
        bias = np.asarray(pred.bias[...]).reshape(ANCHORS, 5 + CLASSES)
        bound = 1 / np.sqrt(pred.kernel[...].shape[2])
        expected = [0.0] * 4 + [np.log(8 / (640 / stride) ** 2)] + [np.log(0.6 / (CLASSES - 0.99))] * CLASSES
        assert np.all(np.abs(bias - expected) <= bound + 1e-6)
        assert np.abs(np.asarray(pred.kernel[...])).max() <= bound
    stats = functional.batch_stats(model)["backbone"]["stages"]["0"]["down"]["norm"]
    assert float(stats["num_batches_tracked"]) == 1
    np.testing.assert_allclose(stats["var"], 0.9)


def test_width_and_depth_are_free():
    model = nnx.eval_shape(lambda: make(width=0.5, depth=2.0))
    assert len(model.backbone.stages[1].block.m) == 4
    assert len(model.backbone.stages[2].block.m) == 1
    assert model.backbone.stages[3].block.cv4.conv.kernel.shape[-1] == 32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_compute_type_reaches_every_feature_and_not_the_scores(dtype):
    skeleton, variables = functional.abstract(lambda: make(dtype=dtype))

    @jax.jit
    def run(variables, images):
        model = functional.merge(skeleton, variables)
        features = model.backbone.features(images)
        return features, model.head.decode(model.head(model.neck(features)))

    features, rows = jax.eval_shape(run, variables, pixels(2))
    assert {f.dtype for f in features} == {jnp.dtype(dtype)}
    assert rows.dtype == jnp.float32
    assert all(a.dtype != jnp.bfloat16 for a in jax.tree.leaves(variables))


def test_padded_lanes_have_no_boxes():
    skeleton, variables = functional.split(detector())

    @jax.jit
    def run(variables, images, at_step):
        model = functional.merge(skeleton, variables)
        return model.predict(Images(images), at_step, jnp.ones(2, bool), ())[0]

    found = run(variables, pixels(2), jnp.asarray([[0], [-1]]))
    assert found.boxes.shape == (2, 1, 300, 4)
    assert found.det_mask[0].any()
    assert not found.det_mask[1].any()
