"""Training batches: a function of the step alone, whatever the workers, processes and the past."""

import itertools
import shutil

import numpy as np
import pytest
import recordings_data as rd

from jaxdet import data
from jaxdet.data.events import recordings
from jaxdet.data.events.windows import Windows
from jaxdet.errors import InputError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("gen1")
    rd.make_set(path)
    return path


def leaves(batch):
    return [*batch.inputs, *batch.targets, batch.reset, batch.source]


def assert_equal(a, b):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def take(batches, num):
    try:
        return list(itertools.islice(batches, num))
    finally:
        batches.close()


TBPTT = {"window_ms": 400, "segment_ms": 100}


@pytest.mark.parametrize("stage", [{}, TBPTT])
def test_seek_equals_iterate(root, stage):
    config = rd.config(root, **stage)
    steps = data.open(config, "train").steps_per_epoch + 3
    straight = take(data.open(config, "train"), steps)
    for start in (1, steps - 2):
        assert_equal(next(data.open(config, "train", start=start)), straight[start])
    batches = data.open(config, "train")
    next(batches)
    batches.seek(steps - 1)
    assert_equal(next(batches), straight[-1])
    batches.close()


def test_two_workers_give_the_batches_of_none(root):
    alone = take(data.open(rd.config(root), "train", start=2), 5)
    batches = data.open(rd.config(root, workers=2), "train", start=2)
    for a, b in zip(alone, take(batches, 5), strict=True):
        assert_equal(a, b)
    assert batches.step == 7


@pytest.mark.parametrize("stage", [{}, TBPTT])
def test_processes_share_the_lanes_of_one(root, stage):
    config = rd.config(root, **stage)
    whole = Windows(config, "train")
    halves = [Windows(config, "train", (i, 2)) for i in range(2)]
    for step in range(5):
        parts = [leaves(h.batch(step)[0]) for h in halves]
        for one, *two in zip(leaves(whole.batch(step)[0]), *parts, strict=True):
            np.testing.assert_array_equal(one, np.concatenate(two))


def test_an_epoch_holds_every_window_at_most_once_and_the_next_is_permuted_anew(root):
    source = Windows(rd.config(root, augment=False), "train")
    assert source.steps_per_epoch == 24 // 4
    epochs = [[source._window(24 * e + i)[0] for i in range(24)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(24))
    assert epochs[0] != epochs[1]


def test_a_rest_smaller_than_a_batch_is_left_out(root):
    source = Windows(rd.config(root, batch_size=5), "train")
    assert source.steps_per_epoch == 4
    first = [source._window(i)[0] for i in range(20)]
    second = [source._window(20 + i)[0] for i in range(20)]
    assert len(set(first)) == len(set(second)) == 20


def test_segments_of_a_window_are_the_window_cut(root):
    """All lanes reset on the first segment only; together the segments hold the window's events once each."""
    config = rd.config(root, **TBPTT, event_buckets=(1 << 16,))
    whole = Windows(
        rd.config(root, window_ms=400, segment_ms=400, event_buckets=(1 << 16,), max_slots=8), "train"
    )
    source = Windows(config, "train")
    for group in range(2):
        segments = [source.batch(4 * group + s)[0] for s in range(4)]
        assert [list(b.reset) for b in segments] == [[True] * 4] + [[False] * 4] * 3
        window = whole.batch(group)[0]
        for lane in range(4):
            got = [b.inputs.xy[lane, : b.inputs.step_start[lane, -1]] for b in segments]
            num = window.inputs.step_start[lane, -1]
            np.testing.assert_array_equal(np.concatenate(got), window.inputs.xy[lane, :num])


@pytest.mark.parametrize(("warmup", "first_slots"), [("segment", [21] * 3), ("recording", [21, 0, 0])])
def test_warm_up_holds_per_segment_or_once(root, warmup, first_slots):
    """Released rule: steps up to 20 of every segment are never trained on. Labels lie every 10 steps here."""
    config = rd.config(
        root, window_ms=600, segment_ms=200, warmup=warmup, max_slots=4, augment=False, batch_size=1
    )
    source = Windows(config, "train")
    assert source.num_segments == 3
    for segment, first in enumerate(first_slots):
        targets = source.batch(segment)[0].targets
        steps = targets.at_step[targets.slot_mask]
        assert len(steps)
        assert steps.min() >= first
        assert steps.min() < first + 10  # nothing else is left out
        assert len(steps) == len(np.unique(steps))


def test_labels_carry_boxes_flags_and_the_time_of_their_step(root):
    config = rd.config(root, augment=False, batch_size=1)
    source = Windows(config, "train")
    batch = source.batch(0)[0]
    slots = np.flatnonzero(batch.targets.slot_mask[0])
    real = [s for s in slots if batch.targets.box_mask[0, s].any()]
    assert real
    for s in real:
        np.testing.assert_array_equal(batch.targets.boxes[0, s, :2], [[2, 1, 30, 21], [2, 1, 7, 6]])
        np.testing.assert_array_equal(batch.targets.ignore_mask[0, s, :2], [False, True])
        np.testing.assert_array_equal(batch.targets.labels[0, s, :2], [0, 1])
    index, times = batch.source[0, real, 0], batch.source[0, real, 1]
    # Labels lie at multiples of 50 ms plus a millisecond per recording; a step ends up to 5 ms after it.
    late = (times - 1000 * index) % 50_000
    assert (late > 0).all()
    assert (late <= 5000).all()


def test_what_a_bucket_cannot_hold_is_said_before_the_first_step_and_counted(root, caplog):
    caplog.set_level("INFO")
    Windows(rd.config(root, event_buckets=(1 << 16,)), "train")
    assert not caplog.records
    Windows(rd.config(root, event_buckets=(256,)), "train")
    assert "events will be left out" in caplog.text
    assert "--config.data.event_buckets=256," in caplog.text
    batches = data.open(rd.config(root, event_buckets=(256,), augment=False), "train")
    batch = next(batches)
    batches.close()
    assert batch.inputs.xy.shape[1] == 256
    full = Windows(rd.config(root, event_buckets=(1 << 16,), augment=False), "train").batch(0)[0]
    lost = full.inputs.step_start[:, -1] - batch.inputs.step_start[:, -1]
    assert lost.min() > 0
    assert batches.dropped["events"] == lost.sum()


@pytest.mark.parametrize("stage", [{}, TBPTT])
def test_erased_regions_take_events_and_leave_labels_and_draws(root, stage):
    whole, erased = (Windows(rd.config(root, **stage, erase=num), "train") for num in (0, 3))
    lost = 0
    for step in range(4):
        (a, _), (b, _) = whole.batch(step), erased.batch(step)
        for x, y in zip([*a.targets, a.reset, a.source], [*b.targets, b.reset, b.source], strict=True):
            np.testing.assert_array_equal(x, y)
        before, after = (batch.inputs.step_start[:, -1] for batch in (a, b))
        assert (after <= before).all()
        lost += int((before - after).sum())
        kept = {tuple(row) for row in a.inputs.xy[0, : before[0]].tolist()}
        assert {tuple(row) for row in b.inputs.xy[0, : after[0]].tolist()} <= kept
    assert lost > 0


def test_overfit_repeats_its_windows_with_the_same_draws(root):
    source = Windows(rd.config(root, overfit=4), "train")
    assert_equal(source.batch(0)[0], source.batch(9)[0])
    few = Windows(rd.config(root, overfit=2), "train").batch(0)[0]
    np.testing.assert_array_equal(few.inputs.xy[:2], few.inputs.xy[2:])


def test_a_recording_that_breaks_in_the_middle_is_named_or_skipped_and_counted(root, tmp_path):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    config = rd.config(tmp_path)
    batches = data.open(config, "train")
    next(batches)
    (tmp_path / "train" / "r1" / "events.npy").write_bytes(b"damaged")
    batches.seek(1)
    with pytest.raises(InputError, match="r1"):
        take(batches, 6)

    config.skip_corrupt = True
    batches = data.open(config, "train")
    got = take(batches, 6)
    assert batches.dropped["lanes"] == 8  # every window of r1, once in an epoch
    empty = [lane for b in got for lane in range(4) if not b.inputs.step_start[lane, -1]]
    assert len(empty) == 8
    for batch in got:
        assert not batch.targets.slot_mask[batch.inputs.step_start[:, -1] == 0].any()


def test_skipping_does_not_hide_a_wrong_setting(root):
    config = rd.config(root, skip_corrupt=True, max_slots=1, window_ms=400, segment_ms=400)
    with pytest.raises(InputError, match=r"data\.max_slots"):
        take(data.open(config, "train"), 2)


def test_an_event_outside_the_sensor_is_named(tmp_path):
    rd.make_set(tmp_path, num=1)
    path = tmp_path / "train" / "r0" / "events.npy"
    words = np.load(path)
    words[len(words) // 2 :] |= 31 << 11 | 31  # row 31 of 24
    np.save(path, words)
    with pytest.raises(InputError, match=r"r0.*outside the 32 x 24"):
        take(data.open(rd.config(tmp_path, augment=False), "train"), 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_boxes": 1}, "data.max_boxes"),
        ({"max_slots": 1, "warmup": "recording", "window_ms": 400, "segment_ms": 400}, "data.max_slots"),
        ({"segment_ms": 150}, "data.window_ms"),
        ({"step_us": 40_000}, "data.step_us"),
        ({"step_us": 0}, "data.step_us"),
        ({"batch_size": 100}, "data.batch_size"),
        ({"width": 304}, "data.width"),
        ({"warmup": "never"}, "data.warmup"),
        ({"kind": "gen2"}, "data.kind"),
        ({"root": "nowhere"}, "nowhere"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(root, changes, message):
    with pytest.raises(InputError, match=message) as error:
        take(data.open(rd.config(root, **changes), "train"), 2)
    assert "\n" not in str(error.value)


def test_recordings_are_opened_when_read(root, monkeypatch):
    source = Windows(rd.config(root, batch_size=1, overfit=1), "train")
    opened = []
    source._recordings._close_all()
    real = recordings.open_recording
    monkeypatch.setattr(recordings, "open_recording", lambda path: opened.append(path) or real(path))
    source.batch(0)
    assert len(opened) == 1


def test_one_of_so_many_labelled_times_is_kept_and_the_others_are_not_negatives(root, caplog):
    """Labels lie every 50 ms from 200 to 550 ms on: of eight times of a recording two stay, 200 ms apart."""
    caplog.set_level("INFO")
    source = Windows(rd.config(root, augment=False, label_every=4), "train")
    assert "left out 18 of 24 labelled times" in caplog.text
    for step in range(3):
        targets = source.batch(step)[0].targets
        assert (targets.slot_mask.sum(1) <= 1).all()
        assert targets.box_mask.any(2)[targets.slot_mask].all()
    with pytest.raises(InputError, match=r"label_every is 0"):
        Windows(rd.config(root, label_every=0), "train")
