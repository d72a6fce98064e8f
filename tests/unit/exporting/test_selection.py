"""Detections chosen by ONNX nodes against those of jaxdet's own rules."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx_graphs
import pytest
from golden_data import load

from jaxdet.errors import InputError
from jaxdet.exporting import graph, selection
from jaxdet.ops import boxes
from jaxdet.ops.select import BestClass, Candidates, MultiLabel

_NAMES = ("boxes", "objectness", "classes")


def session_of(rule, num, classes, image_size=None, images=1):
    """A function from candidates and whether an image is valid to boxes, scores and labels.

    Of `images` other than one there are also the images of the boxes; `graph.ANY` takes any number.
    """
    made = graph.Graph()
    shapes = dict(zip(_NAMES, ((images, num, 4), (images, num), (images, num, classes))))
    candidates = [made.value(n, s, np.float32) for n, s in shapes.items()]
    found = selection.select(made, rule, candidates, made.value("valid", (1, 1), bool), image_size)
    free = {n: [None if length == graph.ANY else length for length in s] for n, s in shapes.items()}
    inputs = {n: (np.dtype(np.float32), s) for n, s in free.items()} | {"valid": (np.dtype(bool), (1, 1))}
    columns = {"boxes": (np.float32, [None, 4]), "scores": (np.float32, [None])}
    types = {n: columns.get(n, (np.int32, [None])) for n in found}
    outputs = {found[n]: (np.dtype(d), s) for n, (d, s) in types.items()}
    session = onnx_graphs.session(onnx_graphs.model(made, inputs, outputs))

    def run(candidates, valid=True):
        arrays = {n: np.asarray(a) for n, a in zip(_NAMES, candidates)}
        return session.run(None, {**arrays, "valid": np.full((1, 1), valid)})

    return run


def assert_equal(rule, run, candidates, valid=True, clip=None):
    """Same boxes, scores and labels in the same order; returns their number."""
    found = run(candidates, valid)
    selected = jax.jit(rule)(Candidates(*map(jnp.asarray, candidates)), jnp.full(1, valid))
    mask = selected.mask
    if clip:
        clipped = boxes.clip(selected.boxes, float(clip[1]), float(clip[0]))
        selected, mask = selected._replace(boxes=clipped), mask & (boxes.area(clipped) > 0)
    expected = [np.asarray(a[0])[np.asarray(mask[0])] for a in selected[:3]]
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_array_equal(theirs, ours)
    return len(found[1])


def _rows(name, key):
    rows = load(name)[f"{key}__in"]
    return np.asarray(boxes.cxcywh_to_xyxy(jnp.asarray(rows[..., :4]))), rows[..., 4], rows[..., 5:]


def _images(candidates):
    return [tuple(a[i : i + 1] for a in candidates) for i in range(len(candidates[0]))]


@pytest.mark.parametrize(
    "case",
    sorted(k.removesuffix("__conf_iou") for k in load("yolox/postprocess") if k.endswith("__conf_iou")),
)
def test_best_class_equals_jaxdet_on_stored_candidates(case):
    rule = BestClass(*map(float, load("yolox/postprocess")[f"{case}__conf_iou"]))
    candidates = _rows("yolox/postprocess", case)
    run = session_of(rule, *candidates[2].shape[1:])
    for image in _images(candidates):
        assert_equal(rule, run, image)


@pytest.mark.runtimes
@pytest.mark.parametrize(
    "case", sorted(k.removesuffix("__kw") for k in load("yolo/nms") if k.endswith("__kw"))
)
def test_multi_label_equals_jaxdet_on_stored_candidates(case):
    least, iou, merge, agnostic = load("yolo/nms")[f"{case}__kw"]
    rule = MultiLabel(float(least), float(iou), 300, bool(merge), bool(agnostic))
    candidates = _rows("yolo/nms", case)
    if merge:
        with pytest.raises(InputError, match="merged boxes"):
            session_of(rule, *candidates[2].shape[1:])
        return
    run = session_of(rule, *candidates[2].shape[1:])
    for image in _images(candidates):
        assert_equal(rule, run, image)


def _made_up(seed, num=600, classes=3, levels=8):
    """Candidates with many equal scores, some at the threshold, and boxes that overlap and reach outside."""
    rng = np.random.default_rng(seed)
    low = rng.integers(-20, 60, (1, num, 2))
    xyxy = np.concatenate([low, low + rng.integers(0, 30, (1, num, 2))], -1).astype(np.float32)
    score = lambda *shape: (rng.integers(0, levels + 1, shape) / levels).astype(np.float32)  # noqa: E731
    return xyxy, score(1, num), score(1, num, classes)


@pytest.mark.parametrize("rule", [BestClass(0.25, 0.5), MultiLabel(0.25, 0.5)])
def test_ties_thresholds_and_empty_results_follow_jaxdet(rule):
    clip = (60, 60)
    run, inside = session_of(rule, 600, 3), session_of(rule, 600, 3, clip)
    counts = [assert_equal(rule, run, _made_up(seed)) for seed in range(5)]
    assert max(counts) > 100
    assert assert_equal(rule, inside, _made_up(0), clip=clip) < counts[0]
    assert assert_equal(rule, run, _made_up(0), valid=False) == 0
    nothing = _made_up(0)[0], np.zeros((1, 600), np.float32), np.zeros((1, 600, 3), np.float32)
    assert assert_equal(rule, inside, nothing, clip=clip) == 0


def test_no_more_than_the_limit_is_kept():
    rule = MultiLabel(0.0, 0.9, 300)
    assert assert_equal(rule, session_of(rule, 600, 3), _made_up(1)) == 300


@pytest.mark.parametrize("rule", [BestClass(0.25, 0.5), MultiLabel(0.25, 0.5), MultiLabel(0.0, 0.9, 50)])
@pytest.mark.parametrize("images", [3, graph.ANY])
def test_boxes_of_several_images_are_those_of_each(rule, images):
    one, many = session_of(rule, 200, 3), session_of(rule, 200, 3, images=images)
    nothing = _made_up(0, 200)[0], np.zeros((1, 200), np.float32), np.zeros((1, 200, 3), np.float32)
    each = [_made_up(1, 200), nothing, _made_up(2, 200)]
    *found, image = many([np.concatenate(parts) for parts in zip(*each)])
    expected = [one(candidates) for candidates in each]
    np.testing.assert_array_equal(image, np.repeat([0, 1, 2], [len(e[1]) for e in expected]))
    for ours, theirs in zip(zip(*expected), found, strict=True):
        np.testing.assert_array_equal(theirs, np.concatenate(ours))
