"""Streams that share a program and a batch give the boxes of streams that are alone."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import tiny_detectors

from jaxdet import api
from jaxdet.errors import InputError
from jaxdet.inference import programs
from jaxdet.inference.live import Streams
from jaxdet.inference.streaming import Limits, StreamDetector
from jaxdet.models import from_config
from jaxdet.nn import functional

CLOCKS_US = (913_000_000, 1_700_000_000_000_000)
DURATION_US = 60_000


@pytest.fixture(scope="module")
def built():
    cfg = tiny_detectors.get_config("hmnet")  # memories that fire every step and every third
    with cfg.model.unlocked():
        cfg.model.min_score = 0.0
    return functional.split(from_config.build(cfg, 0))


def _stream(built):
    limits = Limits(max_events=64)
    return StreamDetector(*built, event_sizes=(64,), start_us=None, limits=limits)


def _events(seed, first_us=0, count=400):
    """Events of a camera with its own clock; the middle third of the second one is silent."""
    rng = np.random.default_rng(seed)
    t_us = np.sort(rng.integers(first_us, DURATION_US, count))
    t_us[0], t_us[-1] = first_us, DURATION_US - 1
    if seed == 1:
        t_us = t_us[(t_us < 20_000) | (t_us >= 40_000)]
    return t_us + CLOCKS_US[seed], *(rng.integers(0, most, len(t_us)) for most in (64, 64, 2))


def _alone(built, cameras):
    return [[step.boxes for step in _stream(built).feed(*events)] for events in cameras]


def _assert_close(together, alone):
    """The same boxes; those of nearly equal scores may change places, as a batch rounds otherwise."""
    for one, two in zip(together, alone, strict=True):
        assert [boxes.time_us for boxes in one] == [boxes.time_us for boxes in two]
        for a, b in zip(one, two, strict=True):
            assert len(a) == len(b)
            rows = [np.c_[boxes.xyxy / 1e-3, boxes.scores / 1e-5, boxes.labels * 1e9] for boxes in (a, b)]
            far = np.abs(rows[0][:, None] - rows[1]).max(-1, initial=0)
            assert (far.min(0, initial=0 if not len(a) else np.inf) <= 1).all()
            assert (far.min(1, initial=0 if not len(a) else np.inf) <= 1).all()


def test_streams_in_step_are_one_batch_with_the_boxes_of_each_alone(built):
    cameras = [_events(seed) for seed in range(2)]
    streams = Streams([_stream(built) for _ in cameras], compile_now=True)
    compiled = programs.step.cache_info().misses
    found = streams.feed(cameras)
    assert programs.step.cache_info().misses == compiled
    assert streams.num_batches == len(found[0]) == DURATION_US // 5_000 - 1
    assert sum(len(boxes) for of_lane in found for boxes in of_lane) > 30
    _assert_close(found, _alone(built, cameras))
    assert [stream.statistics["steps"] for stream in streams] == [11, 11]
    last = streams.advance([clock + DURATION_US for clock in CLOCKS_US])
    assert [[boxes.time_us for boxes in of_lane] for of_lane in last] == [
        [c + DURATION_US] for c in CLOCKS_US
    ]


def test_streams_out_of_step_do_not_wait_and_come_into_step_by_the_cycle(built):
    first = _events(0)
    for begin_us, in_step in ((5_000, False), (15_000, True)):
        cameras = [first, _events(1, begin_us)]
        streams = Streams([_stream(built) for _ in cameras], compile_now=False)
        early = first[0] < CLOCKS_US[0] + begin_us
        found = streams.feed([[column[early] for column in first], None])
        assert (len(found[0]), found[1]) == (begin_us // 5_000 - 1, [])
        found[0] += streams[0].advance(CLOCKS_US[0] + begin_us)
        later = streams.feed([[column[~early] for column in first], cameras[1]])
        _assert_close([found[0] + later[0], later[1]], _alone(built, cameras))
        # Three steps are a cycle of the second memory.
        assert streams.num_batches == (len(later[1]) if in_step else 0)


def test_the_front_door_makes_a_set_of_streams_with_a_camera_each():
    config = runpy.run_path(str(Path(__file__).parents[2] / "integration" / "tiny_hmnet.py"))["get_config"]()
    with config.model.unlocked():
        config.model.min_score = 0.0
    model = api.Model(config, *functional.split(from_config.build(config, 0)))
    streams = model.streams(["608x480", "912x720"], fit="scale")
    cameras = [
        (_events(0)[0], *(scale * column for column in _events(0)[1:3]), _events(0)[3]) for scale in (2, 3)
    ]
    found = streams.feed(cameras)
    assert streams.num_batches == len(found[0]) == 11
    assert [of_lane[0].image_size for of_lane in found] == [(480, 608), (720, 912)]
    _assert_close(found[:1], [model.stream("608x480", fit="scale").feed(*cameras[0])])
    with pytest.raises(InputError, match="events of 1 cameras for 2 streams"):
        streams.feed(cameras[:1])
