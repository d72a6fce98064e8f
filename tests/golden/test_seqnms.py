"""Seq-NMS against the released code, clip by clip."""

import golden_data
import numpy as np
import pytest

from jaxdet.postprocess import overlaps, seqnms
from jaxdet.structs import Boxes

ARCHIVE = "yolo/seqnms_small"


@pytest.fixture(autouse=True)
def few_shapes(monkeypatch):
    """Four compilations serve all clips; padding never changes a result."""
    monkeypatch.setattr(overlaps, "_FRAME_SIZES", (64, 512))
    monkeypatch.setattr(overlaps, "_BOX_SIZES", (16, 64))


def _clips():
    return [key.removesuffix("__n") for key in golden_data.load(ARCHIVE) if key.endswith("__n")]


def clip_frames(arrays, name):
    """Frames of clip `name` of a golden archive."""
    counts = arrays[f"{name}__n"]
    boxes, scores = arrays[f"{name}__box_x1000"] / 1000.0, arrays[f"{name}__score_x1e5"] / 1e5
    labels = arrays[f"{name}__label"].astype(int)
    stops = np.cumsum(counts)
    return [Boxes(boxes[a:b], scores[a:b], labels[a:b]) for a, b in zip(stops - counts, stops)]


@pytest.mark.parametrize("name", _clips())
def test_same_boxes_labels_and_order_as_released(name):
    arrays = golden_data.load(ARCHIVE)
    frames = clip_frames(arrays, name)
    for percent in (5, 6, 7):
        options = seqnms.SeqNMSOptions(min_score=percent / 10)
        found = [
            (t, label, row)
            for t, (rows, _, labels) in enumerate(seqnms.select(frames, options))
            for row, label in zip(rows, labels)
        ]
        expected = arrays[f"{name}__out{percent}_frame_class_index"]
        np.testing.assert_array_equal(np.reshape(found, (-1, 3)), expected)


def test_new_scores_have_the_released_bits():
    arrays = golden_data.load(ARCHIVE)
    name = "r60x16_ties"
    rows, options = 0, seqnms.SeqNMSOptions(min_score=0.5)
    for t, (frame, kept) in enumerate(
        zip(clip_frames(arrays, name), seqnms.select(clip_frames(arrays, name), options))
    ):
        index, scores, labels = kept
        np.testing.assert_array_equal(scores, arrays[f"{name}__rescored"][labels, rows + index], f"frame {t}")
        rows += len(frame.scores)


def test_cutting_where_no_link_crosses_changes_nothing():
    arrays = golden_data.load(ARCHIVE)
    frames = clip_frames(arrays, "r40x12_empty")
    whole = seqnms.run(frames)
    pieces = seqnms.run(frames, seqnms.SeqNMSOptions(max_frames=12))
    for a, b in zip(whole, pieces):
        for name in ("xyxy", "scores", "labels"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
