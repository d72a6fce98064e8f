import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdet.ops.layer_norm import PARTS, layer_norm, takes, trained_layer_norm


def _in_float64(x, scale, bias):
    centred = x - x.mean(-1, keepdims=True)
    normed = centred / jnp.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return normed * jnp.broadcast_to(scale, x.shape) + jnp.broadcast_to(bias, x.shape)


def _trained(x, scale, bias):
    parts = jnp.broadcast_to(jnp.stack([scale, bias]), (PARTS, 2, scale.size))
    fixed = (lax.stop_gradient(a) for a in (scale, bias))
    return trained_layer_norm(x, *fixed, parts, 1e-5, True)


# Fewer rows than parts, features that are no power of two, several tiles a part.
@pytest.mark.parametrize("shape", [(3, 5, 32), (2, 7, 11, 96), (4, 1140, 8)])
@pytest.mark.parametrize("function", [_trained, lambda *arrays: layer_norm(*arrays, 1e-5)])
def test_gradients_are_those_of_the_formula(shape, function):
    x, dy = np.random.default_rng(0).normal(size=(2, *shape))
    scale, bias = np.linspace(0.5, 2, shape[-1]), np.linspace(-1, 1, shape[-1])

    def gradients(function, dtype):
        arrays = (jnp.asarray(a, dtype) for a in (x, scale, bias))
        return jax.jit(jax.grad(lambda *a: (function(*a) * dy).sum(), (0, 1, 2)))(*arrays)

    with jax.enable_x64(True):
        expected = gradients(_in_float64, jnp.float64)
    for got, want in zip(gradients(function, jnp.float32), expected, strict=True):
        # Sums of up to 4,560 products of a few units in float32.
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


def test_half_types_are_summed_in_float32():
    """Ones in bfloat16 stop adding up at 256."""
    x = jnp.tile(jnp.asarray([1, -1], jnp.bfloat16), (PARTS * 300, 4))
    _, back = jax.vjp(_trained, x, jnp.ones(8), jnp.zeros(8))
    dx, dscale, dbias = back(jnp.ones_like(x))
    assert (dx.dtype, dscale.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_array_equal(dbias, PARTS * 300)
    np.testing.assert_allclose(dscale, PARTS * 300 * np.tile([1, -1], 4), rtol=1e-4)  # eps beside 1


def test_values_and_types():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8)), jnp.float32)
    weights = jnp.linspace(1, 2, 8), jnp.linspace(0, 1, 8)
    np.testing.assert_array_equal(_trained(x, *weights), layer_norm(x, *weights, 1e-5))
    assert [takes(x.astype(t)) for t in (jnp.float32, jnp.bfloat16, jnp.int32)] == [True, True, False]
