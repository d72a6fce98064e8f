"""Suppression as ONNX nodes against jaxdet's rules on random candidates: ties, empty sets and the limit."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import onnx_graphs
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from jaxdet.exporting import graph, selection
from jaxdet.ops.select import BestClass, Candidates, MultiLabel

NUM, CLASSES = 200, 3
CLOSE = 1e-5  # an IoU that near to the threshold may fall on either side
RULES = [
    BestClass(0.25, 0.5),
    MultiLabel(0.25, 0.5),
    MultiLabel(0.25, 0.5, agnostic=True),
    MultiLabel(0.0, 0.9),  # reaches its limit
]
NAMES = ("boxes", "objectness", "classes")


@cache
def _functions(rule):
    """The exported rule, and jaxdet's own, of the candidates of one image."""
    made = graph.Graph()
    shapes = dict(zip(NAMES, ((1, NUM, 4), (1, NUM), (1, NUM, CLASSES))))
    candidates = [made.value(n, s, np.float32) for n, s in shapes.items()]
    found = selection.select(made, rule, candidates, graph.constant(np.ones((1, 1), bool)), None)
    inputs = {n: (np.dtype(np.float32), s) for n, s in shapes.items()}
    types = {"boxes": (np.float32, [None, 4]), "scores": (np.float32, [None]), "labels": (np.int32, [None])}
    outputs = {found[n]: (np.dtype(d), s) for n, (d, s) in types.items()}
    session = onnx_graphs.session(onnx_graphs.model(made, inputs, outputs))
    own = jax.jit(lambda *arrays: rule(Candidates(*arrays), jnp.ones(1, bool)))
    return (lambda arrays: session.run(None, dict(zip(NAMES, arrays)))), own


@st.composite
def candidates(draw):
    """Boxes of few or many scores, on whole pixels or not, crowded or apart, or none that score enough."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread, levels = draw(st.sampled_from([20, 200, 3000])), draw(st.sampled_from([2, 8, 100_000]))
    low = rng.uniform(-20, spread, (1, NUM, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, 40, (1, NUM, 2))], -1)
    if draw(st.booleans()):
        boxes = boxes.round()
    copied = rng.random(NUM) < draw(st.sampled_from([0, 0.3]))
    boxes[0, copied] = boxes[0, rng.integers(0, NUM, copied.sum())]
    most = draw(st.sampled_from([0.1, 0.6, 1.0]))

    def score(*shape):
        return (most * rng.integers(0, levels + 1, shape) / levels).astype(np.float32)

    return boxes.astype(np.float32), score(1, NUM), score(1, NUM, CLASSES)


def _is_close(boxes, threshold, offsets):
    """A pair of boxes, moved by one of `offsets`, has nearly the IoU of the threshold."""
    for offset in offsets:
        moved = (boxes[0] + np.float32(offset)).astype(np.float64)
        size = moved[:, 2:] - moved[:, :2]
        low = np.maximum(moved[:, None, :2], moved[None, :, :2])
        both = (np.minimum(moved[:, None, 2:], moved[None, :, 2:]) - low).clip(0).prod(-1)
        union = size.prod(-1)[:, None] + size.prod(-1)[None] - both
        iou = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
        if (np.abs(iou - threshold) < CLOSE).any():
            return True
    return False


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(candidates())
@settings(max_examples=60, deadline=None)
def test_the_same_boxes_remain_in_the_same_order(rule, arrays):
    exported, own = _functions(rule)
    apart = isinstance(rule, MultiLabel) and not rule.agnostic
    if _is_close(arrays[0], rule.nms_iou, range(0, 4096 * CLASSES, 4096) if apart else [0]):
        event("an IoU within 1e-5 of the threshold")
        return
    selected = own(*arrays)
    mask = np.asarray(selected.mask[0])
    event(f"{min(100 * (int(mask.sum()) // 100), 300)} boxes or more")
    for ours, theirs in zip(selected[:3], exported(arrays), strict=True):
        np.testing.assert_array_equal(theirs, np.asarray(ours[0])[mask])
