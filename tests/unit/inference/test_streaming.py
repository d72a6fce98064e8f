"""A live stream: what arrives in any form is used or counted, and the stream keeps up."""

import itertools
import runpy
import time
from pathlib import Path

import numpy as np
import pytest

from jaxdet.data.events import filters, fit, sequences
from jaxdet.data.events.filters import Filters
from jaxdet.data.events.mounting import Mounting
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError
from jaxdet.inference import programs, streaming
from jaxdet.inference.streaming import Limits, StreamDetector
from jaxdet.models import from_config
from jaxdet.nn import functional

CONFIG = Path(__file__).parents[2] / "integration" / "tiny_hmnet.py"
STEP_US, CLOCK_US, SIZES = 5_000, 913_002_000, (64, 256)


@pytest.fixture(scope="module")
def built():
    cfg = runpy.run_path(str(CONFIG))["get_config"]()
    with cfg.model.unlocked():
        cfg.model.min_score = 0.0  # fresh weights score low
    return functional.split(from_config.build(cfg, 0))


def _stream(built, clock=time.perf_counter, **limits):
    return StreamDetector(*built, event_sizes=SIZES, start_us=None, limits=Limits(**limits), clock=clock)


def _events(seed=0, count=600, duration_us=100_000, clock_us=CLOCK_US):
    rng = np.random.default_rng(seed)
    t_us = clock_us + np.sort(rng.integers(0, duration_us, count))
    t_us[-1] = clock_us + duration_us - 1
    return [t_us, rng.integers(0, 304, count), rng.integers(0, 240, count), rng.integers(0, 2, count)]


def _part(events, rows):
    return [column[rows] for column in events]


def _assert_same(one, two):
    assert [step.boxes.time_us for step in one] == [step.boxes.time_us for step in two]
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.boxes.xyxy, b.boxes.xyxy)


def _used_and_left_out(stream):
    counts = [n for reason, n in stream.report.counts.items() if reason.startswith("events")]
    return stream.num_events + stream.num_waiting + sum(counts)


@pytest.fixture(scope="module")
def whole(built):
    stream = _stream(built)
    steps = list(stream.feed(*_events()))
    # From the step of the first event, 913 s into the clock of the camera.
    assert [step.boxes.time_us for step in steps] == list(range(913_005_000, 913_102_000, STEP_US))
    assert not stream.report
    return steps


def test_steps_that_nobody_takes_are_not_lost(built, whole):
    stream, events = _stream(built), _events()
    for number in range(0, 500, 100):
        stream.feed(*_part(events, slice(number, number + 100)))
    first = next(stream.feed(*_part(events, slice(500, 600))))
    assert stream.steps_due == len(whole) - 1
    _assert_same([first, *stream.advance(0)], whole)
    assert _used_and_left_out(stream) == 600


@pytest.mark.parametrize("packet", [1, 7, 600])
def test_packets_of_any_size_and_order_inside_give_the_same_boxes(built, whole, packet):
    stream, events, steps = _stream(built), _events(), []
    rng = np.random.default_rng(1)
    for first in range(0, 600, packet):
        rows = np.arange(first, min(first + packet, 600))
        signs = _part(events, rng.permutation(rows))
        # Equal times may change places, which are those of different pixels.
        steps += stream.feed(*signs[:3], 2 * signs[3] - 1 if packet > 1 else signs[3].astype(bool))
    assert [step.boxes.time_us for step in steps] == [step.boxes.time_us for step in whole]
    for one, two in zip(steps, whole, strict=True):
        np.testing.assert_allclose(one.boxes.scores, two.boxes.scores, atol=1e-5)
    assert not stream.report


def test_events_beside_the_camera_and_late_ones_are_counted(built, whole):
    stream, events = _stream(built), _events()
    beside = [np.full(3, CLOCK_US), np.array([304, -1, 5]), np.array([0, 0, 240]), np.ones(3, int)]
    stream.feed(*beside)
    steps = list(stream.feed(*events))
    steps += stream.feed(*_part(events, slice(0, 10)))
    _assert_same(steps, whole)
    assert stream.report.counts == {fit.OUTSIDE_SENSOR: 3, streaming.LATE: 10}
    for polarity in ([2], [-2]):
        with pytest.raises(InputError, match="expected 0 and 1, or -1 and 1"):
            stream.feed([1], [1], [1], polarity)
    with pytest.raises(InputError, match="one length"):
        stream.feed([1, 2], [1], [1], [1])


def test_a_step_keeps_its_newest_events_and_nothing_is_compiled_late(built):
    stream = _stream(built, max_events=16)
    stream.compile()
    compiled = programs.step.cache_info().misses
    events = _events()
    steps = list(stream.feed(*events))
    assert programs.step.cache_info().misses == compiled
    counts = np.bincount((events[0] - 913_000_000) // STEP_US)[: len(steps)]
    assert stream.report.counts == {streaming.OVER_LIMIT: (counts - np.minimum(counts, 16)).sum()}
    kept = []
    for begin in range(913_000_000, 913_100_000, STEP_US):
        inside = np.flatnonzero((events[0] >= begin) & (events[0] < begin + STEP_US))
        kept.append(inside[-16:])
    alone = _stream(built, max_events=16)
    rest = np.flatnonzero(events[0] >= 913_100_000)
    _assert_same(list(alone.feed(*_part(events, np.concatenate([*kept, rest])))), steps)


@pytest.mark.slow
def test_a_packet_of_a_million_events_is_used_or_counted(built, whole):
    stream, count = _stream(built, max_events=256), 1_000_000
    events = _events(count=count)
    steps = list(stream.feed(*events))
    assert [step.boxes.time_us for step in steps] == [step.boxes.time_us for step in whole]
    counts = np.bincount((events[0] - 913_000_000) // STEP_US)[: len(steps)]
    assert stream.num_events == 256 * len(steps)
    assert stream.report.counts == {streaming.OVER_LIMIT: counts.sum() - 256 * len(steps)}
    assert _used_and_left_out(stream) == count


def test_a_stream_that_is_behind_skips_the_oldest_steps(built):
    # A clock in which everything takes a microsecond.
    ticks = itertools.count()
    stream, events = _stream(built, lambda: 1e-6 * next(ticks), max_delay_us=20_000), _events()
    steps = list(stream.feed(*events))
    assert [step.boxes.time_us for step in steps] == list(range(913_085_000, 913_102_000, STEP_US))
    assert stream.report.counts[streaming.STEPS_BEHIND] == 16
    before = int((events[0] < 913_080_000).sum())
    assert stream.report.counts[streaming.BEHIND] == before
    assert _used_and_left_out(stream) == 600
    numbers = stream.statistics()
    assert (numbers["steps"], numbers["waiting_steps"]) == (4, 0)
    assert 0 < numbers["p50_ms"] <= numbers["p99_ms"]
    assert numbers["real_time"] > 0


def test_steps_that_waited_too_long_since_they_arrived_are_skipped_but_the_newest(built):
    now, events = [100.0], _events()
    stream = _stream(built, lambda: now[0], max_delay_us=20_000)
    early = events[0] < 913_020_000
    stream.feed(*_part(events, early))
    now[0] += 0.0201
    stream.feed(*_part(events, ~early & (events[0] < 913_031_000)))
    times, counts = [], []
    for step in stream.due():
        times.append(step.boxes.time_us)
        counts.append(stream.report.counts.get(streaming.STEPS_BEHIND, 0))
    # The first packet ended the three steps up to 913,015,000 us.
    assert times == [913_020_000, 913_025_000, 913_030_000]
    assert counts == [3, 3, 3]
    stream.feed(*_part(events, events[0] >= 913_031_000))
    now[0] += 1.0  # the reader was away
    assert [step.boxes.time_us for step in stream.due()] == [913_100_000]
    assert _used_and_left_out(stream) == 600


def test_packets_that_come_together_are_the_same_as_one_by_one(built, whole):
    stream, events = _stream(built), EventChunk(*_events())
    packets = [events.take(slice(first, first + 1)) for first in range(600)]
    steps = list(stream.feed_packets((packet, 0.0) for packet in packets))
    _assert_same(steps, whole)
    again = [packet._replace(t_us=packet.t_us - 800_000_000) for packet in packets]
    steps = list(stream.feed_packets((packet, 0.0) for packet in [*packets[:1], *again]))
    assert [step.boxes.time_us for step in steps] == [step.boxes.time_us - 800_000_000 for step in whole]
    assert stream.report.counts[streaming.RESTARTS] == 1


def test_an_hour_of_silence_costs_nothing_and_resets_the_memory(built, whole):
    hour_us = 3_600_000_000
    stream = _stream(built, max_gap_us=1_000_000)
    steps = list(stream.feed(*_events()))
    steps += stream.feed(*_events(clock_us=CLOCK_US + hour_us))
    assert len(steps) == 2 * len(whole) + 1  # with the step that was open
    assert stream.report.counts == {sequences.SKIPPED: 1}
    for one, two in zip(steps[-len(whole) :], whole, strict=True):
        np.testing.assert_array_equal(one.boxes.xyxy, two.boxes.xyxy)
        assert one.boxes.time_us == two.boxes.time_us + hour_us


def test_a_clock_that_restarts_begins_another_recording(built, whole):
    stream = _stream(built)
    list(stream.feed(*_events()))
    waiting = stream.num_waiting
    steps = list(stream.feed(*_events(clock_us=CLOCK_US - 900_000_000)))
    assert len(steps) == len(whole)
    np.testing.assert_array_equal(steps[-1].boxes.xyxy, whole[-1].boxes.xyxy)
    assert stream.report.counts == {streaming.RESTARTS: 1, streaming.ABANDONED: waiting}


def test_a_camera_that_hangs_upside_down_with_a_hot_pixel_gives_the_same_boxes(built, whole):
    t_us, x, y, polarity = _events()
    stream = _stream(built)
    fitted = fit.choose(None, (240, 304), (240, 304), None, Mounting(rotate=180))
    stream.reset(None, fit=fitted, filters=Filters(hot_pixels=[(0, 0)]))
    hot = t_us[:-1:10]
    assert not ((x == 303) & (y == 239)).any()
    corner = hot, 0 * hot, 0 * hot, 0 * hot
    turned = t_us, 303 - x, 239 - y, polarity
    steps = list(stream.feed(*(np.concatenate(pair) for pair in zip(turned, corner, strict=True))))
    assert stream.report.counts == {filters.HOT: len(hot)}
    for one, two in zip(steps, whole, strict=True):
        x0, y0, x1, y1 = two.boxes.xyxy.T
        expected = np.stack([304 - x1, 240 - y1, 304 - x0, 240 - y0], -1)
        np.testing.assert_allclose(one.boxes.xyxy, expected, atol=1e-3)


def test_a_fit_gives_boxes_in_the_pixels_of_the_camera(built, whole):
    t_us, x, y, polarity = _events()
    for name, atol in (("bin", 1e-3), ("scale", None)):
        stream = _stream(built)
        stream.reset(None, fit=fit.choose(name, (480, 608), (240, 304)))
        steps = list(stream.feed(t_us, 2 * x, 2 * y + 1, polarity))
        assert {step.boxes.image_size for step in steps} == {(480, 608)}
        assert [step.boxes.time_us for step in steps] == [step.boxes.time_us for step in whole]
        if atol is not None:
            for one, two in zip(steps, whole, strict=True):
                np.testing.assert_allclose(one.boxes.xyxy, 2 * two.boxes.xyxy, atol=atol)
