"""Steps and event windows of another size than the published models'."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from jaxdet import models
from jaxdet.errors import InputError
from jaxdet.models import events as event_ops
from jaxdet.structs import EventGeometry, Events

SIZE = (48, 64)


def lane(rows, order):
    """One lane and one step of events (x, y, t, p) in this order."""
    x, y, t, p = rows[order].T
    return Events(
        xy=jnp.asarray(np.stack([x, y], -1)[None], jnp.float32),
        t_us=jnp.asarray(t[None], jnp.int16),
        polarity=jnp.asarray(p[None], jnp.int8),
        step_start=jnp.asarray([[0, len(rows)]], jnp.int32),
    )


@pytest.mark.parametrize("step_us", [5_000, 10_000, 1_234, 32_767])
def test_bins_of_time_divide_the_step_whatever_its_length(step_us):
    t_us = np.arange(step_us)
    found = np.asarray(
        event_ops.time_bins(jnp.asarray(t_us, jnp.int16), EventGeometry(*SIZE, step_us=step_us))
    )
    np.testing.assert_array_equal(found, [int(t) * 100 // step_us for t in t_us])
    if step_us == 5_000:  # as released
        np.testing.assert_array_equal(found, t_us // 50)


def test_a_step_twice_as_long_reads_events_twice_as_late_alike():
    rng = np.random.default_rng(0)
    xy = jnp.asarray(rng.integers(0, 16, (40, 2)), jnp.float32)
    t_us, polarity = jnp.asarray(rng.integers(0, 5_000, 40), jnp.int16), jnp.asarray(rng.integers(0, 2, 40))
    found = []
    for factor in (1, 2):
        geometry = EventGeometry(*SIZE, step_us=factor * 5_000)
        embed = event_ops.EventEmbedding(4, geometry, rngs=nnx.Rngs(0))
        write = event_ops.EventWrite(8, 12, 2, rngs=nnx.Rngs(1))
        direct = event_ops.key_values(embed, write, xy, factor * t_us, polarity, jnp.float32)
        table = event_ops.key_value_table(embed, write, jnp.float32)
        looked_up = table[event_ops.table_rows(xy, factor * t_us, polarity, geometry)]
        # The table's rows are one larger product, which may add in another order.
        np.testing.assert_allclose(looked_up, direct, atol=1e-5)
        found.append((direct, looked_up))
    for one, two in zip(*found):
        np.testing.assert_array_equal(one, two)


@given(st.sets(st.integers(1, 3_000), min_size=1), st.integers(1, 10**7))
def test_a_slice_is_not_much_larger_than_its_events(sizes, total):
    found = event_ops.growing(tuple(sizes), total)
    assert set(sizes) <= set(found)
    assert found == sorted(found)
    for count in (1, max(sizes) + 1, total // 2, total):
        if max(sizes) < count <= total:
            assert min(size for size in (*found, total) if size >= count) <= 8 * count


def test_sizes_of_no_events_are_refused():
    with pytest.raises(InputError, match="event_sizes has 0; expected numbers of events, 1 or more"):
        event_ops.growing((8, 0), 100)


def test_steps_of_any_number_of_events_are_read_whole():
    counts = np.array([[3, 0, 70, 700]])
    starts = np.pad(np.cumsum(counts, 1), ((0, 0), (1, 0)))
    total = starts[0, -1]
    t_us, polarity, starts = (
        jnp.asarray(a, jnp.int32) for a in (np.arange(total)[None], np.zeros((1, total)), starts)
    )
    whole = Events(jnp.zeros((1, total, 2)), t_us, polarity, starts)
    steps = event_ops.StepEvents(whole, event_ops.growing((4,), int(total)), 8, 64, 4)
    assert steps.sizes == [4, 32, 256, int(total)]
    for step, count in enumerate(counts[0]):
        summed = steps.over(jnp.asarray(step), lambda xy, t_us, polarity, cell: (t_us * (cell < 64)).sum())
        first = int(starts[0, step])
        assert int(summed) == sum(range(first, first + count))
        assert steps.counts[0, step] == count


@pytest.mark.slow
def test_wider_windows_read_the_same_from_events_in_the_order_of_narrow_ones():
    """The host sorts by windows of 4 pixels; a model with windows of 8 must not depend on that order."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, [SIZE[1], SIZE[0], 5000, 2], (300, 4))
    order = {size: np.lexsort((rows[:, 0] // size, rows[:, 1] // size)) for size in (4, 8)}
    model = models.build(
        "hmnet",
        geometry=EventGeometry(*SIZE, window=8),
        widths=(8,),
        num_heads=(2,),
        depths=(1,),
        periods=(1,),
        out_features=8,
        event_features=4,
        rngs=nnx.Rngs(0),
    )
    at_step, reset = jnp.zeros((1, 1), jnp.int32), jnp.ones(1, bool)
    features = {
        (size, train): model.backbone(
            lane(rows, order[size]), at_step, reset, model.init_carry(1), train
        ).features[0]
        for size in order
        for train in (False, True)
    }
    assert features[4, False].shape == (1, SIZE[0] // 8, SIZE[1] // 8, 8)
    for key, value in features.items():
        # Sums of events run in another order, and the table holds what training computes anew.
        np.testing.assert_allclose(value, features[8, False], atol=2e-5, err_msg=str(key))
    assert model.head.strides == (8, 16, 32)
