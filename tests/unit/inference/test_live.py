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
from jaxdet.inference import live, streaming
from jaxdet.inference.streaming import Limits, StreamDetector
from jaxdet.models import from_config
from jaxdet.nn import functional

CONFIG = Path(__file__).parents[2] / "integration" / "tiny_hmnet.py"
CLOCK_US = 50_000_000


def _packet(start_us, count, span_us=1000, camera=None):
    t_us = CLOCK_US + start_us + np.sort(np.random.default_rng(start_us).integers(0, span_us, count))
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


def test_a_camera_over_tcp_gives_lines_of_boxes_in_its_own_pixels(built, monkeypatch, capsys):
    sent = [_packet(5_000 * k, 50, 5_000, camera=(480, 608)) for k in range(5)]
    monkeypatch.setattr(packets, "receive", lambda address: iter(sent))
    detector = StreamDetector(*built, event_sizes=(64,), limits=Limits(max_events=64))
    predictions.of_live(detector, "tcp://camera:1", View(), "-", {})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["t_us"] - CLOCK_US for line in lines] == [5_000, 10_000, 15_000, 20_000, 25_000]
    assert max(box[2] for line in lines for box in line["boxes"]) > 304
    assert threading.active_count() < 20
