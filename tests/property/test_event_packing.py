"""Packing events into lanes: nothing is lost in silence, padding and chunk borders change nothing."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet.data.events import augment, packing, sequences
from jaxdet.data.events.streams import EventChunk

HEIGHT, WIDTH, STEP_US = 24, 32, 1000


@st.composite
def chunks(draw, max_events=60, max_us=12_000):
    """Events in order of time, with ties and bursts."""
    num = draw(st.integers(0, max_events))

    def column(low, high):
        return np.array(draw(st.lists(st.integers(low, high), min_size=num, max_size=num)), np.int64)

    return EventChunk(
        np.sort(column(0, max_us - 1)),
        column(0, WIDTH - 1).astype(np.int16),
        column(0, HEIGHT - 1).astype(np.int16),
        column(0, 1).astype(np.int8),
    )


views = st.builds(
    lambda seed: augment.view(
        augment.draw(np.random.default_rng(seed), (0, 0), HEIGHT, WIDTH), HEIGHT, WIDTH
    ),
    st.integers(0, 1000),
)


def pack(chunk, budget, view=None, start_us=0, num_steps=8):
    batch = packing.empty(1, budget, num_steps, 0, 0)
    pixels = augment.pixel_map(view or augment.identity(HEIGHT, WIDTH))
    lost = packing.put_events(batch, 0, chunk, start_us, pixels, STEP_US)
    return batch.inputs, lost


def rows(packed, start_us=0):
    """Packed events of lane 0 as rows (t, x, y, p)."""
    num_steps = packed.step_start.shape[1] - 1
    num = packed.step_start[0, -1]
    step = np.repeat(np.arange(num_steps), np.diff(packed.step_start[0]))
    t = start_us + step * STEP_US + packed.t_us[0, :num].astype(np.int64)
    return np.column_stack([t, packed.xy[0, :num], packed.polarity[0, :num]])


def sort_rows(table):
    return table[np.lexsort(table.T[::-1])]


@given(chunks(), st.integers(0, 5000))
def test_every_event_of_the_segment_is_kept_once(chunk, start_us):
    packed, lost = pack(chunk, 64, start_us=start_us)
    inside = (chunk.t_us >= start_us) & (chunk.t_us < start_us + 8 * STEP_US)
    want = np.column_stack(chunk).astype(float)[inside]
    assert lost == 0
    np.testing.assert_array_equal(sort_rows(rows(packed, start_us)), sort_rows(want))
    assert (packed.t_us < STEP_US).all()


@given(chunks(), views)
def test_steps_are_sorted_by_window_then_time(chunk, view):
    packed, _ = pack(chunk, 64, view)
    for a, b in zip(packed.step_start[0], packed.step_start[0, 1:]):
        x, y = packed.xy[0, a:b].T
        cell = np.trunc(y / 4) * (WIDTH // 4) + np.trunc(x / 4)
        key = cell * STEP_US + packed.t_us[0, a:b]
        assert (np.diff(key) >= 0).all()


@given(chunks(), views, st.integers(0, 100))
def test_a_larger_bucket_changes_nothing_but_padding(chunk, view, more):
    small, lost = pack(chunk, 60, view)
    large, _ = pack(chunk, 60 + more, view)
    assert lost == 0
    for a, b in zip(small[:3], large[:3]):
        np.testing.assert_array_equal(a, b[:, :60])
        assert not b[:, 60:].any()
    np.testing.assert_array_equal(small.step_start, large.step_start)


@given(chunks(), st.integers(1, 40))
def test_an_overfull_segment_keeps_the_latest_of_its_longest_steps_and_counts_the_rest(chunk, budget):
    everything, _ = pack(chunk, 64)
    packed, lost = pack(chunk, budget)
    full, got = np.diff(everything.step_start[0]), np.diff(packed.step_start[0])
    assert full.sum() == got.sum() + lost
    assert got.sum() <= budget
    cut = got < full
    if cut.any():
        # Only the longest steps are cut, to one length, and one event more in each would not fit.
        assert (got[cut] == got.max()).all()
        assert got.sum() + cut.sum() > budget
    for k in range(8):
        step = chunk.t_us // STEP_US == k
        want = np.sort(chunk.t_us[step])[full[k] - got[k] :] - k * STEP_US
        a, b = packed.step_start[0, k : k + 2]
        np.testing.assert_array_equal(np.sort(packed.t_us[0, a:b]), want)


@settings(deadline=None)
@given(chunks(max_us=40_000), st.lists(st.integers(0, 60), max_size=6), st.sampled_from([1000, 3000, 8000]))
def test_how_a_stream_is_cut_into_chunks_changes_nothing(chunk, cuts, segment_us):
    edges = [0, *sorted(min(c, len(chunk.t_us)) for c in cuts), len(chunk.t_us)]
    parts = [chunk.take(slice(a, b)) for a, b in itertools.pairwise(edges)]
    whole = list(sequences.of_chunks([chunk], segment_us, STEP_US))
    cut = list(sequences.of_chunks(parts, segment_us, STEP_US))
    assert [(s.start_us, s.num_steps) for s in whole] == [(s.start_us, s.num_steps) for s in cut]
    for a, b in zip(whole, cut):
        for x, y in zip(a.events, b.events):
            np.testing.assert_array_equal(x, y)
    if len(chunk.t_us):
        joined = np.concatenate([s.events.t_us for s in cut])
        np.testing.assert_array_equal(joined, chunk.t_us)
        assert cut[-1].start_us + cut[-1].num_steps * STEP_US > chunk.t_us[-1]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(0, 400))
def test_step_limit_is_the_largest_that_fits(counts, budget):
    counts = np.array(counts)
    limit = packing.step_limit(counts, budget)
    assert np.minimum(counts, limit).sum() <= budget
    assert limit == counts.max() or np.minimum(counts, limit + 1).sum() > budget


def test_a_step_of_more_than_65536_events_is_sorted_too():
    rng = np.random.default_rng(0)
    num = 70_000
    chunk = EventChunk(
        np.full(num, 1500),
        rng.integers(0, WIDTH, num).astype(np.int16),
        rng.integers(0, HEIGHT, num).astype(np.int16),
        np.arange(num).astype(np.int8) & 1,
    )
    packed, lost = pack(chunk, num)
    cell = chunk.y // 4 * (WIDTH // 4) + chunk.x // 4
    order = np.argsort(cell, kind="stable")
    assert lost == 0
    np.testing.assert_array_equal(packed.xy[0], np.column_stack([chunk.x, chunk.y])[order])
    np.testing.assert_array_equal(packed.polarity[0], chunk.p[order])
