"""Selection of detections against the released rules, on stored candidates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_data import load

from jaxdet.ops import boxes
from jaxdet.ops.select import BestClass, Candidates, MultiLabel

_CASES = sorted(k.removesuffix("__kw") for k in load("yolo/nms") if k.endswith("__kw"))
_YOLOX_CASES = sorted(
    k.removesuffix("__conf_iou") for k in load("yolox/postprocess") if k.endswith("__conf_iou")
)


def _candidates(rows):
    rows = jnp.asarray(rows)
    return Candidates(boxes.cxcywh_to_xyxy(rows[..., :4]), rows[..., 4], rows[..., 5:])


def _assert_same(selected, expected_boxes, scores, labels):
    """Equal in order but for scores that are closer than 1e-5."""
    assert selected[0].shape == expected_boxes.shape
    found = np.concatenate([selected[0], selected[1][:, None], selected[2][:, None]], 1)
    expected = np.concatenate([expected_boxes, scores[:, None], labels[:, None]], 1)
    np.testing.assert_allclose(found[:, 4], expected[:, 4], atol=1e-5)
    moved = np.flatnonzero(np.abs(found - expected).max(1) > 0.01)
    for i in moved:
        near = np.flatnonzero(np.abs(expected[:, 4] - found[i, 4]) < 1e-5)
        assert np.abs(expected[near] - found[i]).max(1).min() <= 0.01


def _check(selected, counts, expected):
    expected = np.split(expected, np.cumsum(np.maximum(counts, 0))[:-1])
    for i, rows in enumerate(expected):
        mask = np.asarray(selected.mask[i])
        assert mask.sum() == max(counts[i], 0)
        kept = [np.asarray(a[i])[mask] for a in (selected.boxes, selected.scores, selected.labels)]
        yield kept, rows


@pytest.mark.parametrize("case", _CASES)
def test_yolov4_selection_equals_released(case):
    arrays = load("yolo/nms")
    min_score, iou, merge, agnostic = arrays[f"{case}__kw"]
    rule = MultiLabel(float(min_score), float(iou), 300, bool(merge), bool(agnostic))
    rows = arrays[f"{case}__in"]
    selected = jax.jit(rule)(_candidates(rows), jnp.ones(len(rows), bool))
    for kept, out in _check(selected, arrays[f"{case}__n"], arrays[f"{case}__out"]):
        _assert_same(kept, out[:, :4], out[:, 4], out[:, 5])


@pytest.mark.parametrize("case", _YOLOX_CASES)
def test_yolox_selection_equals_released(case):
    arrays = load("yolox/postprocess")
    min_score, iou = arrays[f"{case}__conf_iou"]
    rows = arrays[f"{case}__in"]
    rule = BestClass(float(min_score), float(iou))
    selected = jax.jit(rule)(_candidates(rows), jnp.ones(len(rows), bool))
    for kept, out in _check(selected, arrays[f"{case}__n"], arrays[f"{case}__out"]):
        _assert_same(kept, out[:, :4], out[:, 4] * out[:, 5], out[:, 6])
