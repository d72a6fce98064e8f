"""Erased regions hold no event in their time, and nothing else changes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet.data.events import erasing
from jaxdet.data.events.streams import EventChunk

HEIGHT, WIDTH, WINDOW_US = 24, 32, 10_000


def _events(rng, start_us):
    num = 3000
    return EventChunk(
        start_us + np.sort(rng.integers(-2_000, WINDOW_US + 2_000, num)),
        rng.integers(0, WIDTH, num).astype(np.int16),
        rng.integers(0, HEIGHT, num).astype(np.int16),
        rng.integers(0, 2, num).astype(np.int8),
    )


def _inside(events, region, start_us):
    t_us = events.t_us - start_us
    return (
        (events.x >= region.x0) & (events.x < region.x1) & (events.y >= region.y0) & (events.y < region.y1)
        & (t_us >= region.start_us) & (t_us < region.stop_us)
    )  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(-(10**6), 10**12))
def test_the_events_outside_the_regions_stay_as_they_were(seed, num, start_us):
    rng = np.random.default_rng(seed)
    events, regions = _events(rng, start_us), erasing.draw(rng, num, HEIGHT, WIDTH, WINDOW_US)
    assert len(regions) == num
    left = erasing.erase(events, regions, start_us)
    stays = ~np.any([_inside(events, region, start_us) for region in regions] or [np.zeros(3000, bool)], 0)
    for column, before in zip(left, events, strict=True):
        np.testing.assert_array_equal(column, before[stays])


def test_regions_lie_in_the_sensor_and_the_window():
    rng = np.random.default_rng(0)
    for region in erasing.draw(rng, 300, HEIGHT, WIDTH, WINDOW_US):
        for low, high, size, share in zip(
            (region.x0, region.y0, region.start_us),
            (region.x1, region.y1, region.stop_us),
            (WIDTH, HEIGHT, WINDOW_US),
            (erasing.SIDE, erasing.SIDE, erasing.TIME),
            strict=True,
        ):
            assert 0 <= low < high <= size
            assert share[0] * size - 1 <= high - low <= share[1] * size + 1
