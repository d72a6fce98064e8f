import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import attention, window_attention_kernel

SIZE, HEADS = 3, 2


@pytest.mark.parametrize("grid", [(6, 3), (4, 7)])  # whole windows, and cells that the last windows lack
def test_equals_attention_in_cut_windows(grid):
    rng = np.random.default_rng(0)
    query, key, value = rng.normal(size=(3, 2, *grid, HEADS * 16)).astype(np.float32)
    outside = rng.normal(size=2 * HEADS * 16).astype(np.float32)
    bias = rng.normal(size=(HEADS, SIZE * SIZE, SIZE * SIZE)).astype(np.float32)
    pair = jnp.asarray(np.concatenate([key, value], -1))
    found = window_attention_kernel.window_attention(
        jnp.asarray(query), pair, jnp.asarray(outside), jnp.asarray(bias), SIZE, interpret=True
    )

    def cut(array, beyond):
        padded = np.pad(array - beyond, ((0, 0), (0, -grid[0] % SIZE), (0, -grid[1] % SIZE), (0, 0))) + beyond
        windows = attention.windows(jnp.asarray(padded), SIZE)
        return windows.reshape(*windows.shape[:3], HEADS, 16)

    half = HEADS * 16
    q, k, v = cut(query / 4, 0), cut(key, outside[:half]), cut(value, outside[half:])
    expected = attention.window_attention(q, k, v, jnp.asarray(bias))
    expected = attention.unwindows(expected.reshape(*expected.shape[:3], half), SIZE, *grid)
    # Sums of 16 and 9 float32 products.
    np.testing.assert_allclose(found, expected, atol=5e-6)


def test_takes_heads_of_tensor_cores():
    assert window_attention_kernel.takes(jnp.zeros((1, 2, 2, 64)), 2)
    assert not window_attention_kernel.takes(jnp.zeros((1, 2, 2, 64)), 8)
    assert not window_attention_kernel.takes(jnp.zeros((1, 2, 2, 96)), 2)
