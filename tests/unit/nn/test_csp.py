"""Blocks of convolution, norm and activation."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdet.nn import functional
from jaxdet.nn.block import ConvBlock
from jaxdet.nn.csp import SPPCSP, BottleneckCSP, max_pool, mish, spatial_pyramid
from jaxdet.nn.fold import fold


def test_mish_equals_its_definition():
    x = np.linspace(-80, 90, 20001).astype(np.float32).astype(np.float64)
    expected = x * np.tanh(np.logaddexp(0, x))
    # A few roundings of float32, relative where the function is small.
    np.testing.assert_allclose(mish(jnp.asarray(x, jnp.float32)), expected, rtol=2e-6)


def test_mish_has_finite_gradients_everywhere():
    x = jnp.asarray([-1e4, -100.0, 0.0, 19.9, 100.0, 1e4])
    gradient = jax.vmap(jax.grad(mish))(x)
    np.testing.assert_allclose(gradient, [0, 0, 0.6, 1, 1, 1], atol=1e-5)


def test_spatial_pyramid_takes_the_maximum_of_each_window():
    x = np.random.default_rng(0).standard_normal((1, 9, 11, 2)).astype(np.float32)
    out = np.asarray(spatial_pyramid(jnp.asarray(x)))
    for i, size in enumerate((1, 5, 9, 13)):
        pad = size // 2
        wide = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(wide, (size, size), (1, 2))
        np.testing.assert_array_equal(out[..., 2 * i : 2 * i + 2], windows.max((-1, -2)))


class _Model(nnx.Module):
    def __init__(self, rngs):
        self.first = ConvBlock(3, 8, 3, 2, rngs=rngs)
        self.csp = BottleneckCSP(8, 8, 2, rngs=rngs)
        self.spp = SPPCSP(8, 8, rngs=rngs)

    def __call__(self, x):
        return self.spp(self.csp(self.first(x)))


def test_folding_norms_changes_nothing_but_rounding():
    model = _Model(nnx.Rngs(0))
    rng = np.random.default_rng(1)
    skeleton, variables = functional.split(model)
    variables = jax.tree.map(
        lambda a: (
            a + jnp.asarray(0.3 * np.abs(rng.standard_normal(a.shape)), a.dtype)
            if a.dtype == jnp.float32
            else a
        ),
        variables,
    )
    x = jnp.asarray(rng.standard_normal((2, 16, 16, 3)), jnp.float32)
    before = jax.tree.map(np.asarray, variables)
    folded = functional.merge(*fold(skeleton, variables))
    expected = functional.merge(skeleton, variables)(x)
    np.testing.assert_allclose(folded(x), expected, rtol=1e-4, atol=1e-4)
    assert folded.first.norm is None
    assert folded.csp.norm is not None
    jax.tree.map(np.testing.assert_array_equal, before, variables)


def test_gradients_of_equal_values_go_to_the_first_in_order_of_rows():
    x = np.random.default_rng(3).integers(0, 3, (2, 7, 8, 3)).astype(np.float32)  # many ties
    weights = np.random.default_rng(4).integers(1, 9, x.shape).astype(np.float32)  # sums are exact
    gradient = jax.grad(lambda x: (max_pool(x, 5) * weights).sum())(jnp.asarray(x))
    expected = np.zeros_like(x)
    for b, i, j, c in np.ndindex(x.shape):
        top, left = max(i - 2, 0), max(j - 2, 0)
        window = x[b, top : i + 3, left : j + 3, c]
        row, column = np.unravel_index(window.argmax(), window.shape)
        expected[b, top + row, left + column, c] += weights[b, i, j, c]
    np.testing.assert_array_equal(gradient, expected)
