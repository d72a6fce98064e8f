import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import attention

CELLS = 5


@pytest.mark.parametrize("in_order", [True, False])
def test_cells_attend_to_their_own_events_and_a_dustbin(in_order):
    rng = np.random.default_rng(0)
    query, (key, value) = rng.normal(size=(1, CELLS, 2, 3)), rng.normal(size=(2, 1, 8, 2, 3))
    cell = np.array(
        [[0, 0, 2, 2, 2, 4, CELLS, CELLS]]
    )  # cells 1 and 3 are empty, the last two events padding
    if not in_order:
        cell = rng.permutation(cell, 1)
    dustbin = np.array([0.5, -1.0])
    arrays = [jnp.asarray(a, jnp.float32) for a in (query, key, value)]
    attend = jax.jit(attention.event_attention, static_argnums=5)
    found = attend(*arrays, jnp.asarray(cell), jnp.asarray(dustbin, jnp.float32), in_order)
    expected = np.zeros_like(query)
    for place in range(CELLS):
        own = cell[0] == place
        weight = np.exp((key[0, own] * query[0, place]).sum(-1))
        share = weight / (weight.sum(0) + np.exp(dustbin))
        expected[0, place] = (share[:, :, None] * value[0, own]).sum(0)
    # Exponentials of float32, and 1e-7 in the denominator.
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_windows_are_put_back_where_they_were_cut():
    x = jnp.arange(2 * 5 * 7 * 3.0).reshape(2, 5, 7, 3)
    cut = attention.windows(x, 4)
    assert cut.shape == (2, 4, 16, 3)
    np.testing.assert_array_equal(cut[:, 0], x[:, :4, :4].reshape(2, 16, 3))
    np.testing.assert_array_equal(attention.unwindows(cut, 4, 5, 7), x)
