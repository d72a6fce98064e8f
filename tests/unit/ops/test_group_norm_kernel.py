import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.nn.norm import GroupNorm
from jaxdet.ops import group_norm_kernel


def _arrays(shape):
    x, plus = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    scale, bias = np.linspace(0.5, 2, shape[-1]), np.linspace(-1, 1, shape[-1])
    return tuple(jnp.asarray(a, jnp.float32) for a in (x, plus, scale, bias))


def _expected(x, scale, bias, group_size):
    """The norm in float64."""
    b, h, w, c = x.shape
    groups = np.asarray(x, np.float64).reshape(b, h * w, c // group_size, group_size)
    groups = groups - groups.mean((1, 3), keepdims=True)
    groups = groups / np.sqrt((groups * groups).mean((1, 3), keepdims=True) + 1e-5)
    return groups.reshape(x.shape) * np.asarray(scale) + np.asarray(bias)


@pytest.mark.parametrize(
    ("shape", "group_size"),
    [((2, 5, 7, 16), 8), ((1, 3, 3, 4), 4), ((1, 60, 76, 64), 32)],  # the last in tiles, by two kernels
)
def test_equals_the_norm_and_what_follows_it(shape, group_size):
    x, plus, scale, bias = _arrays(shape)
    sizes = group_size, 1e-5
    alone = group_norm_kernel.group_norm(x, scale, bias, *sizes, interpret=True)
    expected = _expected(x, scale, bias, group_size)
    # Float32 means and products of values of a few units.
    np.testing.assert_allclose(alone, expected, atol=5e-6)
    followed = group_norm_kernel.group_norm(x, scale, bias, *sizes, plus, True, jnp.bfloat16, True)
    assert followed.dtype == jnp.bfloat16
    expected = jax.nn.silu(expected + np.asarray(plus))
    np.testing.assert_allclose(followed.astype(jnp.float32), expected, rtol=2**-8, atol=1e-5)


def test_values_far_from_zero_and_from_each_other_lose_no_digits():
    """A mean of 1e4 and one value of 1e6: sums of squares about any one value would lose most digits."""
    x, _, scale, bias = _arrays((1, 60, 76, 32))
    x = x + 1e4
    for image in (x, x.at[0, 0, 0, 0].set(1e6)):
        found = group_norm_kernel.group_norm(image, scale, bias, 32, 1e-5, interpret=True)
        plain = GroupNorm(32, 32)
        plain.scale.set_value(scale)
        plain.bias.set_value(bias)
        # The norm of two passes is as close: the mean of 1e4 has steps of 1e-3.
        np.testing.assert_allclose(found, _expected(image, scale, bias, 32), atol=4e-3)
        np.testing.assert_allclose(plain(image), _expected(image, scale, bias, 32), atol=4e-3)


def test_takes_powers_of_two():
    x = jnp.zeros((1, 2, 2, 48))
    assert group_norm_kernel.takes(x, 16)
    assert not group_norm_kernel.takes(x, 24)
    assert not group_norm_kernel.takes(x.astype(jnp.int32), 16)
