"""Reading whole recordings lane by lane."""

import numpy as np
import pytest
import recordings_data as rd

from jaxdet.data.events import recordings, sequences
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError
from jaxdet.structs import ReadReport

STEP_US, SEGMENT_US = 5000, 45_000


@pytest.fixture(scope="module")
def recs(tmp_path_factory):
    """Recordings of 100, 45 and 250 ms."""
    root = tmp_path_factory.mktemp("gen1")
    paths = [
        rd.write(root, "test", f"r{i}", rd.chunk(np.random.default_rng(i), 500, ms), rd.labels([]), ms)
        for i, ms in enumerate((100, 45, 250))
    ]
    return [recordings.open_recording(p) for p in paths]


def stream(recs, **options):
    parts = [sequences.of_recording(r, SEGMENT_US, STEP_US) for r in recs]
    settings = {"segment_us": SEGMENT_US, "step_us": STEP_US, "size": (rd.HEIGHT, rd.WIDTH)}
    return sequences.SequenceBatches(parts, event_buckets=(64, 1024), **{**settings, **options})


@pytest.mark.parametrize("num_lanes", [1, 2, 3, 5])
def test_every_step_and_event_of_every_recording_comes_once_in_order(recs, num_lanes):
    steps = {i: [] for i in range(3)}
    counts = dict.fromkeys(range(3), 0)
    current = [None] * num_lanes
    for batch in stream(recs, num_lanes=num_lanes):
        for lane in range(num_lanes):
            mask = batch.targets.slot_mask[lane]
            if not mask.any():
                assert batch.inputs.step_start[lane, -1] == 0
                continue
            index = int(batch.source[lane, 0, 0])
            assert batch.reset[lane] == (current[lane] != index)
            current[lane] = index
            steps[index].extend(batch.source[lane, mask, 1])
            counts[index] += batch.inputs.step_start[lane, -1]
    for i, duration_ms in enumerate((100, 45, 250)):
        np.testing.assert_array_equal(steps[i], np.arange(5000, 1000 * duration_ms + 1, 5000))
        assert counts[i] == 500


def test_lanes_do_not_know_each_other(recs):
    """A recording gives the same segments whatever is read beside it."""
    alone = list(stream(recs[2:]))
    beside = list(stream(recs, num_lanes=3))
    assert len(alone) == len(beside) == 6
    for a, b in zip(alone, beside):
        num = a.inputs.step_start[0, -1]
        np.testing.assert_array_equal(a.inputs.step_start[0], b.inputs.step_start[2])
        np.testing.assert_array_equal(a.inputs.xy[0, :num], b.inputs.xy[2, :num])
        np.testing.assert_array_equal(a.targets.at_step[0], b.targets.at_step[2])


def test_only_wanted_steps_get_slots(recs):
    near = sequences.near(np.array([52_000, 200_000]), 6000)
    batches = list(stream(recs[2:], max_slots=4, wanted=lambda _, ends: near(ends)))
    ends = np.concatenate([b.source[0, b.targets.slot_mask[0], 1] for b in batches])
    np.testing.assert_array_equal(ends, [50_000, 55_000, 195_000, 200_000, 205_000])
    with pytest.raises(InputError, match="max_slots"):
        list(stream(recs, max_slots=1))


def test_a_stream_that_runs_backwards_is_refused():
    def chunk(*times):
        num = len(times)
        return EventChunk(np.array(times), *(np.zeros(num, d) for d in (np.int16, np.int16, np.int8)))

    with pytest.raises(InputError, match="backwards"):
        list(sequences.of_chunks([chunk(1, 5), chunk(4)], SEGMENT_US, STEP_US))


def test_a_stream_is_read_no_further_than_needed():
    taken = []

    def chunks():
        for k in range(100):
            taken.append(k)
            yield rd.chunk(np.random.default_rng(k), 10, 1)._replace(t_us=np.full(10, 5000 * k))

    first = next(sequences.of_chunks(chunks(), 10_000, STEP_US))
    assert len(first.events.t_us) == 20
    assert len(taken) == 3


def test_events_of_another_sensor_are_refused_by_name():
    column, zero = np.array([3, 64], np.int16), np.zeros(2, np.int16)
    chunk = EventChunk(np.array([10, 20]), column, zero, zero.astype(np.int8))
    segments = sequences.of_chunks([chunk], 10_000, 5_000)
    stream = sequences.SequenceBatches(
        [segments], segment_us=10_000, step_us=5_000, size=(48, 64), event_buckets=(16,)
    )
    with pytest.raises(InputError, match="column 64, expected 0 to 63"):
        next(stream)


def test_a_clock_that_ran_for_an_hour_costs_no_empty_segments():
    hour = 3_600_000_000
    at = np.array([hour + 12_000, hour + 31_000])
    zero = np.zeros(2, np.int16)
    chunk = EventChunk(at, zero, zero, zero.astype(np.int8))
    found = list(sequences.of_chunks([chunk], 10_000, 5_000))
    assert [segment.start_us - hour for segment in found] == [10_000, 20_000, 30_000]
    assert [len(segment.events.t_us) for segment in found] == [1, 0, 1]


def _at(times):
    times = np.asarray(times, np.int64)
    return EventChunk(times, *(np.zeros(len(times), d) for d in (np.int16, np.int16, np.int8)))


@pytest.mark.parametrize("clock_us", [0, 7_000, 913_000_000, 3_600_000_000, 1_764_100_000_000_000])
def test_the_first_step_holds_the_first_event_whatever_the_clock_says(clock_us):
    segments = list(sequences.of_chunks([_at([clock_us + 6_001, clock_us + 17_000])], 10_000, 5_000))
    start_us = (clock_us + 6_001) // 5_000 * 5_000
    assert [s.start_us for s in segments] == [start_us, start_us + 10_000][: len(segments)]
    ends = [s.start_us + 5_000 * s.num_steps for s in segments]
    assert ends[-1] - 5_000 <= clock_us + 17_000 < ends[-1]
    from_zero = next(sequences.of_chunks([_at([6_001])], 10_000, 5_000, origin_us=0))
    assert (from_zero.start_us, from_zero.num_steps) == (0, 2)


@pytest.mark.parametrize("num_chunks", [1, 2, 5])
def test_a_long_silence_is_kept_or_skipped_with_a_reset(num_chunks):
    times = [0, 6_000, 9_000, 2_009_001, 2_012_000, 4_000_000]
    chunks = [_at(part) for part in np.array_split(times, num_chunks)]
    kept = list(sequences.of_chunks(chunks, 10_000, 5_000))
    assert len(kept) == 401
    assert not any(segment.reset for segment in kept)
    report = ReadReport()
    found = list(sequences.of_chunks(chunks, 10_000, 5_000, max_gap_us=2_000_000, report=report))
    steps = [(s.start_us, s.num_steps, len(s.events.t_us), s.reset) for s in found if s.start_us < 2_100_000]
    assert steps == [(0, 2, 3, False), (2_005_000, 2, 2, True), *steps[2:]]
    assert report.counts == {sequences.SKIPPED: 1}
    assert report.first[sequences.SKIPPED] == "2.000 s before 2009001 us"
    assert sum(len(s.events.t_us) for s in found) == len(times)
    with pytest.raises(InputError, match="at least a step"):
        list(sequences.of_chunks(chunks, 10_000, 5_000, max_gap_us=4_000))


def test_a_reset_inside_a_sequence_reaches_the_batch():
    segments = sequences.of_chunks([_at([0, 1_000_000])], 10_000, 5_000, max_gap_us=100_000)
    batches = sequences.SequenceBatches(
        [segments], segment_us=10_000, step_us=5_000, size=(48, 64), event_buckets=(16,)
    )
    found = [(bool(b.reset[0]), b.source[0, b.targets.slot_mask[0], 1].tolist()) for b in batches]
    assert found == [(True, [5_000]), (True, [1_005_000])]
