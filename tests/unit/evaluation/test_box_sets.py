"""Boxes of several detectors beside labels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet.detections import files
from jaxdet.errors import InputError
from jaxdet.evaluation import box_sets
from jaxdet.evaluation.box_sets import FALSE_ALARM, NOT_JUDGED, BoxSet, ByTime
from jaxdet.structs import Boxes, ReadReport


def _boxes(rng, num, classes=2):
    corner = rng.uniform(0, 30, (num, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(5, 20, (num, 2))], 1)
    return Boxes(xyxy, rng.permutation(num) / max(num, 1), rng.integers(0, classes, num).astype(np.int32))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 8), st.integers(0, 12), st.floats(0, 1))
def test_hiding_boxes_below_a_score_changes_no_match_of_the_others(seed, num_truth, num_found, score):
    rng = np.random.default_rng(seed)
    truth, found = _boxes(rng, num_truth), _boxes(rng, num_found)
    shown = found.scores >= score
    everything, above = box_sets.hits(found, truth), box_sets.hits(found.take(shown), truth)
    np.testing.assert_array_equal(everything[shown], above)
    taken = everything[everything >= 0]
    assert len(np.unique(taken)) == len(taken)
    assert (truth.labels[taken] == found.labels[everything >= 0]).all()


def test_a_better_box_takes_the_label_and_a_duplicate_is_a_false_alarm():
    truth = Boxes(np.array([[0.0, 0, 10, 10], [50, 50, 60, 60]]), np.ones(2), np.zeros(2, np.int32))
    found = Boxes(
        np.array([[1.0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 10]]),
        np.array([0.5, 0.9, 0.8, 0.95]),
        np.array([0, 0, 0, 1], np.int32),  # the last is of another class
    )
    assert box_sets.hits(found, truth).tolist() == [FALSE_ALARM, 0, 1, FALSE_ALARM]
    region = replace(truth, crowd=np.array([False, True]))
    assert box_sets.hits(found, region).tolist() == [FALSE_ALARM, 0, NOT_JUDGED, FALSE_ALARM]
    assert box_sets.hits(found, None).tolist() == [NOT_JUDGED] * 4


def test_classes_are_those_of_the_names_and_else_by_number():
    frame = Boxes(np.zeros((2, 4)), np.ones(2), np.array([0, 1], np.int32))
    named = BoxSet("a", [frame], ("car", "person"))
    other = BoxSet("b", [frame], ("person", "dog"))
    unnamed = BoxSet("c", [replace(frame, labels=np.array([0, 2], np.int32))], ())
    (a, b), c, classes = box_sets.aligned([named, other], unnamed, ())
    assert classes == ("car", "person", "dog", "class_2")
    assert [classes[k] for k in a.frames[0].labels] == ["car", "person"]
    assert [classes[k] for k in b.frames[0].labels] == ["person", "dog"]
    assert [classes[k] for k in c.frames[0].labels] == ["car", "class_2"]
    huge = BoxSet("d", [replace(frame, labels=np.array([5, 2**31 - 1], np.int32))], ())
    assert box_sets.aligned([huge], None, ())[2] == ("class_5", f"class_{2**31 - 1}")
    _, c, classes = box_sets.aligned([], unnamed, ("x", "y", "z"))
    assert [classes[k] for k in c.frames[0].labels] == ["x", "z"]


def test_the_nearest_frame_in_time_is_found_within_reach():
    frames = ByTime([Boxes.none(time_us=t) for t in (100, 300)])
    assert frames.nearest(190, 100).time_us == 100
    assert frames.nearest(210, 100).time_us == 300
    assert frames.nearest(450, 100) is None
    frames.add([Boxes.none(time_us=440)])
    assert frames.nearest(450, 100).time_us == 440
    assert ByTime([]).nearest(0, 10) is None
    assert frames.within(100, 440).time_us == 440
    assert frames.within(100, 439).time_us == 300
    assert frames.within(300, 439) is None
    assert ByTime([]).within(0, 10) is None


def test_boxes_of_one_recording_of_several_and_refusals(tmp_path):
    frames = [Boxes.none(source=name, time_us=5) for name in ("a_td.dat", "b_td.dat")]
    several = BoxSet("x.csv", frames, ())
    assert box_sets.of_recording(several, "a").frames == frames[:1]
    with pytest.raises(InputError, match="2 recordings, none of c"):
        box_sets.of_recording(several, "c")
    assert box_sets.of_recording(several._replace(frames=frames[:1]), "c").frames == frames[:1]
    with pytest.raises(InputError, match="no time"):
        box_sets.of_recording(BoxSet("x", [Boxes.none(source="a.jpg")], ()), "a")
    one = Boxes(np.array([[0.0, 0, 5, 5]]), np.ones(1), np.zeros(1, np.int32), source="a.jpg")
    files.write(tmp_path / "boxes.npz", [one], ("dog",))
    found = box_sets.read(tmp_path / "boxes.npz", ReadReport())
    assert (found.name, found.class_names, len(found.frames)) == ("boxes.npz", ("dog",), 1)
