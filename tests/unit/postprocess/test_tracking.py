"""Tracks: crossing boxes, gaps, classes, irregular times, and the formats that keep identities."""

import numpy as np
import pytest

from jaxdet.detections import files
from jaxdet.errors import InputError
from jaxdet.formats import TRACKED
from jaxdet.postprocess.tracking import Tracker, Trackers, TrackOptions
from jaxdet.structs import Boxes


def _frame(rows, **where):
    """Boxes of (centre x, centre y, label, score), 20 pixels wide and 40 high."""
    table = np.array(rows, float).reshape(-1, 4)
    corners = np.concatenate([table[:, :2] - (10, 20), table[:, :2] + (10, 20)], 1)
    return Boxes(corners, table[:, 3], table[:, 2].astype(np.int32), **{"source": "clip", **where})


def test_two_that_cross_keep_their_identities():
    # They move 6 pixels a frame towards each other, one 5 pixels lower, and meet in frame 15.
    tracker, found = Tracker(), []
    for frame in range(30):
        rows = [(60 + 6 * frame, 100, 0, 0.9), (240 - 6 * frame, 105, 0, 0.9)]
        order = [0, 1] if frame % 2 else [1, 0]  # the order of the boxes says nothing
        ids = tracker(_frame([rows[i] for i in order]), frame).track_ids
        found.append(ids[order])
    assert (np.array(found) == found[0]).all()
    assert sorted(found[0]) == [1, 2]


def test_a_gap_is_bridged_by_the_motion_until_it_is_too_long():
    for gap, same in ((10, True), (40, False)):
        tracker = Tracker(TrackOptions(max_gap=30))
        for frame in range(20):
            first = tracker(_frame([(50 + 4 * frame, 100, 0, 0.9)]), frame).track_ids
        for frame in range(20, 20 + gap):
            assert not len(tracker(_frame([]), frame))
        again = tracker(_frame([(50 + 4 * (20 + gap), 100, 0, 0.9)]), 20 + gap).track_ids
        assert (again.tolist() == first.tolist()) is same


def test_unsure_boxes_continue_tracks_and_begin_none():
    tracker = Tracker(TrackOptions(new_score=0.5, min_score=0.1))
    assert tracker(_frame([(50, 50, 0, 0.3)]), 0).track_ids.tolist() == [-1]
    assert tracker(_frame([(50, 50, 0, 0.6), (50, 50, 1, 0.6)]), 1).track_ids.tolist() == [1, 2]
    # The sure box takes the track although the unsure one fits better; a box of another class does not.
    rows = [(50, 50, 0, 0.3), (53, 50, 0, 0.9), (50, 50, 2, 0.2), (50, 50, 1, 0.05)]
    assert tracker(_frame(rows), 2).track_ids.tolist() == [-1, 1, -1, -1]
    assert tracker(_frame([(50, 50, 1, 0.2)]), 3).track_ids.tolist() == [2]


def test_velocity_holds_over_irregular_times():
    tracker, ids = Tracker(), []
    for now in (
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        11,
        12,
        18,
    ):  # 4 pixels a frame; 24 in the last gap, more than a width
        ids += tracker(_frame([(50 + 4 * now, 100, 0, 0.9)]), now).track_ids.tolist()
    assert set(ids) == {1}


def test_boxes_without_area_and_time_that_stands_still():
    tracker = Tracker()
    flat = Boxes(np.array([[5.0, 5, 5, 9]]), np.ones(1), np.zeros(1, np.int32), source="clip")
    assert tracker(flat, 0).track_ids.tolist() == [-1]
    with pytest.raises(InputError, match="order of time"):
        tracker(flat, 0)
    with pytest.raises(InputError, match="0 <= min <= new"):
        Tracker(TrackOptions(new_score=0.05))


def test_clips_do_not_share_tracks():
    trackers = Trackers()
    box = _frame([(50, 50, 0, 0.9)])
    assert [trackers(box, clip, now).track_ids.tolist() for clip, now in (("a", 5), ("a", 6), ("b", 0))] == [
        [1],
        [1],
        [2],
    ]
    with pytest.raises(InputError, match="split by another clip"):
        trackers(box, "a", 7)


def test_identities_follow_the_rows_that_are_taken():
    boxes = Tracker()(_frame([(50, 50, 0, 0.9), (200, 50, 0, 0.8)]), 0)
    assert boxes.take([1]).track_ids.tolist() == [2]


@pytest.mark.parametrize("kind", [kind for kind in TRACKED if kind != "npy"])
def test_formats_keep_identities(tmp_path, kind):
    tracker = Tracker()
    frames = [
        tracker(
            _frame([(50 + n, 50, 0, 0.9), (150, 50, 1, 0.05)], frame=n, source="x", class_names=("a", "b")), n
        )
        for n in range(1, 4)
    ]
    path = tmp_path / f"x.{kind}"
    files.write(path, frames, ("a", "b"))
    found = files.read(path).frames
    assert [boxes.track_ids.tolist() for boxes in found] == [[1, -1]] * 3
    files.write(path, [boxes.take([1]) for boxes in frames], ("a", "b"))
    assert all(
        boxes.track_ids is None or boxes.track_ids.tolist() == [-1] for boxes in files.read(path).frames
    )


def test_rows_of_recordings_have_their_track(tmp_path):
    boxes = Tracker()(_frame([(50, 50, 0, 0.9), (150, 50, 1, 0.05)], source="x", time_us=5000), 0)
    files.write(tmp_path / "x.npy", [boxes])
    assert np.load(tmp_path / "x.npy")["track_id"].tolist() == [1, 0]
