"""Whole YOLOX models against the official implementation run on CPU."""

import golden_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yolo_models import assert_stats, golden_model, pixels

from jaxdet.nn import functional
from jaxdet.ops import boxes as box_ops
from jaxdet.ops.select import BestClass


@pytest.mark.parametrize("size", ["nano", "s"])
def test_decoded_outputs_and_activations(size):
    g = golden_data.load("yolox/yolox")
    skeleton, variables = golden_model("yolox", size)
    images = pixels(f"yolox-{size}", g[f"{size}__input_shape"])

    @jax.jit
    def run(variables, images):
        model = functional.merge(skeleton, variables)
        features = model.backbone.features(images)
        levels = model.neck(features)
        raw = model.head(levels)
        return features, levels, raw, model.head.candidates(raw, [f.shape[1:3] for f in levels])

    features, levels, _, found = run(variables, images)
    for name, level in zip(("backbone.dark3", "backbone.dark4", "backbone.dark5"), features, strict=True):
        assert_stats(level, g[f"{size}__act_backbone.{name}"], 1e-4)
    for name, level in zip(("C3_p3", "C3_n3", "C3_n4"), levels, strict=True):
        assert_stats(level, g[f"{size}__act_backbone.{name}"], 1e-4)

    boxes = np.asarray(box_ops.xyxy_to_cxcywh(found.boxes))
    rows = np.concatenate([boxes, np.asarray(found.objectness)[..., None], np.asarray(found.classes)], -1)
    assert rows.shape == tuple(g[f"{size}__decoded_shape"])
    every, expected = rows.reshape(-1)[::3], g[f"{size}__decoded_every3"]
    is_box = np.arange(0, rows.size, 3) % rows.shape[-1] < 4
    # exp() of large boxes makes the reference's float32 9e-3 px wrong.
    np.testing.assert_allclose(every[is_box], expected[is_box], rtol=0, atol=0.02)
    # The same rounding of the network moves scores by 2e-5.
    np.testing.assert_allclose(every[~is_box], expected[~is_box], rtol=0, atol=1e-4)

    # The stored detections are of cubed class scores, which lie further apart.
    rule = BestClass(float(g[f"{size}__post_cls_cubed_thr"]), 0.65)
    chosen = jax.jit(rule)(found._replace(classes=found.classes**3), jnp.ones(1, bool))
    expected = g[f"{size}__post_out"]
    kept = np.asarray(chosen.mask[0])
    assert kept.sum() == len(expected)
    np.testing.assert_allclose(chosen.scores[0][kept], expected[:, 4] * expected[:, 5], atol=1e-4)
    rows = np.concatenate([chosen.boxes[0], chosen.labels[0][:, None]], 1)[kept]
    expected = expected[:, [0, 1, 2, 3, 6]]
    # Equal as sets: rounding of the network swaps neighbours in score.
    nearest = np.abs(rows[:, None] - expected[None]).max(-1)
    assert nearest.min(1).max() < 0.05
    assert nearest.min(0).max() < 0.05
