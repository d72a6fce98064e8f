import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdet.ops.group_norm_gradient import trained_group_norm
from jaxdet.ops.group_norm_kernel import NormOptions

PARTS = 3  # fewer than the images of one case


def _in_float64(group_size, silu):
    def norm(x, scale, bias, plus=None):
        groups = x.reshape(x.shape[0], -1, x.shape[-1] // group_size, group_size)
        groups = groups - groups.mean((1, 3), keepdims=True)
        groups = groups / jnp.sqrt((groups * groups).mean((1, 3), keepdims=True) + 1e-5)
        y = groups.reshape(x.shape) * jnp.broadcast_to(scale, x.shape) + jnp.broadcast_to(bias, x.shape)
        y = y if plus is None else y + plus
        return jax.nn.silu(y) if silu else y

    return norm


def _trained(group_size, silu):
    def norm(x, scale, bias, plus=None):
        parts = jnp.broadcast_to(jnp.stack([scale, bias]), (PARTS, 2, scale.size))
        fixed = (lax.stop_gradient(a) for a in (scale, bias))
        return trained_group_norm(x, *fixed, parts, plus, NormOptions(group_size, 1e-5, silu, None, True))

    return norm


@pytest.mark.parametrize(
    ("shape", "group_size", "plus", "silu"),
    [
        ((2, 5, 7, 16), 8, True, True),
        ((4, 3, 3, 4), 4, False, True),
        ((1, 60, 76, 64), 32, True, True),  # a group in tiles
        ((1, 60, 76, 32), 32, False, False),
    ],
)
def test_gradients_are_those_of_the_formula(shape, group_size, plus, silu):
    x, dy, rest = np.random.default_rng(0).normal(size=(3, *shape))
    scale, bias = np.linspace(0.5, 2, shape[-1]), np.linspace(-1, 1, shape[-1])
    given = (x, scale, bias, rest) if plus else (x, scale, bias)

    def gradients(function, dtype):
        loss = lambda *a: (function(group_size, silu)(*a) * dy).sum()  # noqa: E731
        arrays = (jnp.asarray(a, dtype) for a in given)
        return jax.jit(jax.grad(loss, tuple(range(len(given)))))(*arrays)

    with jax.enable_x64(True):
        expected = gradients(_in_float64, jnp.float64)
    for got, want in zip(gradients(_trained, jnp.float32), expected, strict=True):
        # Sums of up to 4,560 products of a few units in float32.
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-4)
