"""Hot pixels and background activity: what is left out is what a loop over events leaves out, and counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet.data.events import filters, fit, streams
from jaxdet.data.events.filters import EventFilter, Filters
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError
from jaxdet.structs import ReadReport

SIZE = (6, 9)


def _events(rng, count, duration_us):
    t_us = np.sort(rng.integers(0, duration_us, count))
    x, y = (rng.integers(0, limit, count).astype(np.int16) for limit in SIZE[::-1])
    return EventChunk(t_us, x, y, rng.integers(0, 2, count).astype(np.int8))


def _by_a_loop(events, within_us):
    newest, kept = {}, []
    for t, x, y, _ in zip(*map(np.ndarray.tolist, events), strict=True):
        around = [(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
        kept.append(any(t - newest.get(pixel, -(10**9)) <= within_us for pixel in around))
        newest[x, y] = t
    return np.array(kept, bool)


@given(st.integers(0, 2**32 - 1), st.integers(0, 150), st.integers(1, 400), st.integers(1, 60))
@settings(deadline=None)
def test_background_activity_is_what_a_loop_finds_whatever_the_chunks(seed, count, within_us, length):
    events = _events(np.random.default_rng(seed), count, 2_000)
    passing, report = EventFilter(Filters(activity_us=within_us), SIZE), ReadReport()
    parts = [passing(events.take(slice(i, i + length)), report) for i in range(0, count, length)]
    expected = events.take(_by_a_loop(events, within_us))
    for one, two in zip(streams.concatenate(parts), expected, strict=True):
        np.testing.assert_array_equal(one, two)
    assert report.counts[filters.ALONE] == count - len(expected.t_us)


def test_named_pixels_are_left_out_and_support_nobody():
    events = EventChunk(np.arange(4), np.array([2, 3, 7, 8]), np.array([2, 2, 5, 5]), np.ones(4, np.int8))
    report = ReadReport()
    kept = EventFilter(Filters([(2, 2)], 100), SIZE)(events, report)
    assert kept.x.tolist() == [8]  # (3, 2) was alone but for the hot pixel, (7, 5) comes first
    assert report.counts == {filters.HOT: 1, filters.ALONE: 2}


def test_a_pixel_that_fires_far_more_than_those_around_it_is_found_and_a_lamp_is_not():
    rng = np.random.default_rng(0)
    events = _events(rng, 500, 1_000_000)
    hot = rng.integers(0, 1_000_000, 400)
    lamp = rng.integers(0, 1_000_000, 25 * 200)
    index = np.arange(len(lamp))
    t_us = np.concatenate([events.t_us, hot, lamp])
    x = np.concatenate([events.x, np.full(400, 7), index % 5])
    y = np.concatenate([events.y, np.full(400, 4), index // 5 % 5])
    order = np.argsort(t_us, kind="stable")
    both = EventChunk(t_us, x, y, np.ones(len(t_us), np.int8)).take(order)
    assert filters.find_hot([both.take(slice(0, 3000)), both.take(slice(3000, None))], SIZE) == [(7, 4)]
    assert filters.find_hot([], SIZE) == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EventFilter(Filters([(9, 0)]), SIZE), "inside 9x6 pixels"),
        (lambda: filters.parse_hot_pixels("3,4"), "expected x:y"),
        (lambda: fit.view(hot_pixels="all"), "expected pairs"),
        (lambda: fit.view(hot_pixels=[(1, -1)]), "from 0 on"),
        (lambda: fit.view(activity_us=0), "above 0"),
    ],
)
def test_filters_that_cannot_be_are_one_line(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_pixels_are_read_from_text():
    assert filters.parse_hot_pixels("1:2,30:4") == ((1, 2), (30, 4))
    assert filters.parse_hot_pixels("find") == filters.FIND
