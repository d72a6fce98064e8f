"""A queue between a camera and a detector loses nothing that it does not count."""

import json
import runpy
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from jaxdet import predictions
from jaxdet.data.events import packets
from jaxdet.data.events.fit import View
from jaxdet.data.events.packets import Packet
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError
from jaxdet.inference import live, programs, streaming
from jaxdet.inference.streaming import Limits, StreamDetector
from jaxdet.models import from_config
from jaxdet.nn import functional

CONFIG = Path(__file__).parents[2] / "integration" / "tiny_hmnet.py"
CLOCK_US = 50_000_000


def _packet(start_us, count, span_us=1000, camera=None):
    t_us = CLOCK_US + start_us + np.sort(np.random.default_rng(abs(start_us)).integers(0, span_us, count))
    x, y = np.arange(count) % 304, np.arange(count) % 240
    return Packet(EventChunk(t_us, x, y, np.ones(count, np.int8)), camera)


def _until(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 5 s")


def test_a_full_queue_keeps_the_newest_packets_and_counts():
    given = [_packet(1000 * k, 10) for k in range(20)]
    queue = live.Queue(iter(given), max_events=35)
    _until(lambda: queue._ended)
    taken = queue.take(wait=True)
    assert [packet.events.t_us[0] for packet, _ in taken] == [p.events.t_us[0] for p in given[-3:]]
    assert queue.report.counts == {live.QUEUE_FULL: 170}
    assert queue.take(wait=True) is None


def test_events_that_came_before_any_time_are_counted():
    queue = live.Queue(iter([Packet(_packet(0, 0).events, None, 7), _packet(0, 5)]), 100)
    _until(lambda: queue._ended)
    assert len(queue.take(wait=True)) == 1
    assert queue.report.counts == {"events without a time": 7}


def test_an_error_of_the_source_comes_after_the_packets_before_it():
    def broken():
        yield _packet(0, 5)
        raise InputError("the camera is gone")

    queue = live.Queue(broken(), 100)
    assert len(queue.take(wait=True)) == 1
    with pytest.raises(InputError, match="the camera is gone"):
        queue.take(wait=True)


@pytest.fixture(scope="module")
def built():
    cfg = runpy.run_path(str(CONFIG))["get_config"]()
    with cfg.model.unlocked():
        cfg.model.min_score = 0.0
    return functional.split(from_config.build(cfg, 0))


def test_a_camera_that_is_too_fast_is_followed_and_every_event_accounted_for(built):
    detector = StreamDetector(
        *built, event_sizes=(64,), start_us=None, limits=Limits(max_events=64, max_delay_us=20_000)
    )
    detector.compile()
    total, told = 0, []
    sizes = np.random.default_rng(0).integers(1, 200, 600)

    def camera():
        nonlocal total
        for k, count in enumerate(sizes.tolist()):
            total += count
            yield _packet(2_000 * k, count, 2_000)

    queue = live.Queue(camera(), 2_000)
    steps = list(live.predict(detector, queue, lambda _: detector.reset(None), told.append, every_s=0.0))
    times = [step.boxes.time_us for step in steps]
    assert times == sorted(set(times))
    assert times[-1] == CLOCK_US + 2_000 * 600  # the step of the last event is closed by the end
    left_out = detector.report.counts | queue.report.counts
    counted = sum(count for reason, count in left_out.items() if reason.startswith("events"))
    assert detector.num_events + counted == total == sizes.sum()
    assert detector.num_waiting == 0
    assert told[-1]["steps"] == len(steps)
    assert left_out[streaming.STEPS_BEHIND] + len(steps) <= 240


class _Clock:
    """Simulated seconds."""

    now = 0.0

    def __call__(self):
        return self.now


class _Simulated:
    """The queue of a camera whose packets arrive by a simulated clock, when their last event is over."""

    def __init__(self, given, clock, backlog):
        self._given, self._clock, self._backlog = iter(given), clock, backlog
        self._next = next(self._given)
        self.most = self.total = 0

    def _due_s(self):
        return (int(self._next.events.t_us[-1]) - CLOCK_US) / 1e6

    def _arrive(self):
        while self._next is not None and self._due_s() <= self._clock.now:
            self.total += len(self._next.events.t_us)
            self._backlog.put(self._next, self._due_s())
            self._next = next(self._given, None)
        self.most = max(self.most, self._backlog._num_events)

    def take(self, wait):
        self._arrive()
        if not self._backlog:
            if self._next is None:
                return None
            if wait:
                self._clock.now = self._due_s()
                self._arrive()
        return self._backlog.take()

    def __bool__(self):
        self._arrive()
        return bool(self._backlog)


def _too_fast(built, monkeypatch, seconds, packet_us, num_events):
    """A camera whose steps take twice the time that they cover; the detector and its queue, at the end."""
    clock, step_s = _Clock(), 0.010
    limits = Limits(max_events=64, max_delay_us=50_000)
    detector = StreamDetector(*built, event_sizes=(64,), start_us=None, limits=limits, clock=clock)
    detector.compile()
    compile_step = programs.step

    def slow(*arguments):
        clock.now += step_s
        return compile_step(*arguments)

    monkeypatch.setattr(programs, "step", slow)
    num_compiled = compile_step.cache_info().misses
    given = (_packet(packet_us * k, num_events, packet_us) for k in range(round(seconds * 1e6 / packet_us)))
    backlog = live.Backlog(4_000_000, limits.max_delay_us + 5_000)
    queue = _Simulated(given, clock, backlog)
    times, longest, waiting = [], 0.0, 0
    for step in live.predict(detector, queue, lambda _: detector.reset(None), lambda numbers: None):
        times.append(step.boxes.time_us)
        longest, waiting = max(longest, detector.latencies[-1]), max(waiting, detector.num_waiting)
    assert compile_step.cache_info().misses == num_compiled
    assert times == sorted(set(times))
    counts = detector.report.counts
    skipped = counts[streaming.STEPS_BEHIND]
    assert skipped + len(times) == (times[-1] - CLOCK_US) // 5_000
    if packet_us <= limits.max_delay_us:  # else it waits for the next packet, and skips most of it
        assert 0.4 < len(times) * 0.005 / seconds < 0.6
    left_out = counts | backlog.report.counts
    lost = sum(count for reason, count in left_out.items() if reason.startswith("events"))
    assert detector.num_events + lost == queue.total
    # A step that begins within the limit, and the newest, which is kept, after it.
    assert longest <= 0.050 + 2 * step_s + 1e-6
    # What waits lies within the limit, the step and the packet that has just come.
    rate = num_events / packet_us
    assert max(waiting, queue.most) <= rate * (50_000 + 15_000 + packet_us)


@pytest.mark.parametrize(("packet_us", "num_events"), [(250, 1), (2_000, 20), (250_000, 2_500)])
def test_at_twice_the_rate_of_the_machine_the_latency_stays_within_its_limit(
    built, monkeypatch, packet_us, num_events
):
    _too_fast(built, monkeypatch, 2.0, packet_us, num_events)


@pytest.mark.slow
def test_ten_minutes_at_twice_the_rate_of_the_machine(built, monkeypatch):
    _too_fast(built, monkeypatch, 600.0, 5_000, 100)


def test_packets_that_are_too_old_leave_the_queue_and_are_counted():
    backlog = live.Backlog(1_000, max_delay_us=10_000)
    for number in range(20):
        backlog.put(_packet(1_000 * number, 10), 0.001 * number)
    newest = max(int(_packet(19_000, 10).events.t_us.max()), 0)
    kept = [k for k in range(20) if newest - _packet(1_000 * k, 10).events.t_us.max() <= 10_000]
    assert len(kept) in (10, 11)
    assert backlog.report.counts == {live.QUEUE_LATE: 10 * (20 - len(kept))}
    backlog.put(_packet(-5_000_000, 10), 0.02)  # the clock of the camera restarts: the rest waits on
    backlog.put(_packet(-4_995_000, 10), 0.03)
    assert [at for _, at in backlog.take()] == [*(0.001 * k for k in kept), 0.02, 0.03]


def test_a_camera_over_tcp_gives_lines_of_boxes_in_its_own_pixels(built, monkeypatch, capsys):
    sent = [_packet(5_000 * k, 50, 5_000, camera=(480, 608)) for k in range(5)]
    monkeypatch.setattr(packets, "receive", lambda address: iter(sent))
    detector = StreamDetector(*built, event_sizes=(64,), limits=Limits(max_events=64))
    predictions.of_live(detector, "tcp://camera:1", View(), "-", {})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["t_us"] - CLOCK_US for line in lines] == [5_000, 10_000, 15_000, 20_000, 25_000]
    assert max(box[2] for line in lines for box in line["boxes"]) > 304
    assert threading.active_count() < 20
