"""Seq-NMS on random videos: ties, duplicates and empty frames included."""

import numpy as np
import pytest
import seqnms_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet.errors import InputError
from jaxdet.postprocess import overlaps, seqnms
from jaxdet.structs import Boxes, Detections


@pytest.fixture(autouse=True, scope="module")
def few_shapes():
    """Two compilations serve all examples; padding never changes a result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlaps, "_FRAME_SIZES", (16, 64))
        patch.setattr(overlaps, "_BOX_SIZES", (40,))
        yield


@st.composite
def videos(draw, max_frames=60, max_boxes=40):
    """Slowly moving boxes with near and exact duplicates, coarse or fine scores, wrong labels and empty
    frames."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_frames, num_boxes = draw(st.integers(1, max_frames)), draw(st.integers(0, max_boxes))
    levels = draw(st.sampled_from([2, 10, 100_000]))
    spread = draw(st.sampled_from([30, 120, 400]))
    duplicates, empty = draw(st.sampled_from([0, 0.3])), draw(st.sampled_from([0, 0.1, 1]))
    size = rng.uniform(10, 40, (num_boxes, 2))
    corner, speed = rng.uniform(0, spread, (num_boxes, 2)), rng.normal(0, 1.5, (num_boxes, 2))
    own = rng.integers(0, 3, num_boxes)
    frames = []
    for t in range(num_frames):
        low = (corner + speed * t).round(3)
        boxes = np.concatenate([low, (low + size).round(3)], 1)
        copied = rng.random(num_boxes) < duplicates
        boxes[copied] = boxes[rng.integers(0, num_boxes, copied.sum())] if num_boxes else boxes
        present = (rng.random(num_boxes) < 0.9) & (rng.random() >= empty)
        labels = np.where(rng.random(num_boxes) < 0.9, own, rng.integers(0, 3, num_boxes))
        scores = rng.integers(1, levels + 1, num_boxes) / levels
        frames.append(Boxes(boxes[present], scores[present], labels[present]))
    return frames


def columns(frames):
    return [(boxes.xyxy, boxes.scores, boxes.labels) for boxes in frames]


def kept(frames, **options):
    return [
        (t, int(label), int(row))
        for t, (rows, _, labels) in enumerate(seqnms.select(frames, seqnms.SeqNMSOptions(**options)))
        for row, label in zip(rows, labels)
    ]


@settings(max_examples=60, deadline=None)
@given(videos(), st.sampled_from([0.1, 0.5, 0.7]))
def test_equals_one_path_at_a_time(frames, min_score):
    expected, new = reference.exact(columns(frames), min_score)
    assert kept(frames, min_score=min_score) == expected
    for t, (rows, scores, labels) in enumerate(
        seqnms.select(frames, seqnms.SeqNMSOptions(min_score=min_score))
    ):
        for row, score, label in zip(rows, scores, labels):
            assert score == new[int(label)][t][row]


@settings(max_examples=30, deadline=None)
@given(videos(max_frames=12, max_boxes=10))
def test_equals_floating_point_sums_unless_they_nearly_tie(frames):
    expected, close = reference.released(columns(frames), 0.5)
    if not close:
        assert kept(frames, min_score=0.5) == expected
        assert reference.exact(columns(frames), 0.5)[0] == expected


@settings(max_examples=15, deadline=None)
@given(videos(max_frames=16), st.booleans(), st.booleans())
def test_variants_of_the_paper_equal_one_path_at_a_time(frames, use_max, link_by_class):
    expected, _ = reference.exact(columns(frames), 0.5, use_max, link_by_class)
    assert kept(frames, min_score=0.5, use_max=use_max, link_by_class=link_by_class) == expected


@settings(max_examples=15, deadline=None)
@given(videos(max_frames=40, max_boxes=6), st.integers(1, 16))
def test_cutting_where_no_link_crosses_changes_nothing(frames, max_frames):
    assert kept(frames, max_frames=max_frames) == kept(frames)


def test_slots_of_a_detector_equal_frames():
    rng = np.random.default_rng(3)
    low = rng.uniform(0, 60, (1, 1, 8, 2)) + np.arange(9).reshape(1, 9, 1, 1) * rng.normal(0, 1, (2, 1, 8, 2))
    found = Detections(
        np.concatenate([low, low + 20], -1).astype(np.float32),
        rng.random((2, 9, 8)).astype(np.float32),
        rng.integers(0, 2, (2, 9, 8)).astype(np.int32),
        rng.random((2, 9, 8)) < 0.7,
    )
    result = seqnms.apply(found, seqnms.SeqNMSOptions(min_score=0.3))
    assert result.det_mask.any()
    for b in range(2):
        frames = [Boxes(*(leaf[b, k][found.det_mask[b, k]] for leaf in found[:3])) for k in range(9)]
        for k, frame in enumerate(seqnms.run(frames, seqnms.SeqNMSOptions(min_score=0.3))):
            mask = result.det_mask[b, k]
            np.testing.assert_array_equal(result.boxes[b, k][mask], frame.xyxy.astype(np.float32))
            np.testing.assert_array_equal(result.labels[b, k][mask], frame.labels)


@pytest.mark.parametrize("num_frames", [0, 1, 5])
def test_frames_without_boxes_stay_without_boxes(num_frames):
    empty = Boxes.none()
    assert [len(frame.scores) for frame in seqnms.run([empty] * num_frames)] == [0] * num_frames


@pytest.mark.parametrize("score", [np.nan, -0.1, 1.5])
def test_a_score_that_is_none_is_refused(score):
    with pytest.raises(InputError, match="frame 0, box 0: score"):
        seqnms.run([Boxes(np.ones((1, 4)), np.array([score]), np.zeros(1, int))])
