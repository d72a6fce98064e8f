import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet.nn import block, conv, functional, winograd


@pytest.mark.parametrize("size", [(8, 12), (15, 19), (3, 1)])
def test_equals_the_direct_convolution(size):
    x = jax.random.normal(jax.random.key(0), (2, *size, 8))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 8, 5))
    expected = conv.conv2d(x, kernel)
    actual = winograd.conv3x3(x, winograd.transform_kernel(kernel))
    # The transforms hold numbers up to 8 and 1/24: float32 rounding grows by about a hundred.
    np.testing.assert_allclose(actual, expected, atol=3e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("size", [(8, 12), (7, 5)])
def test_gradients_equal_those_of_the_direct_convolution(size):
    x, dy = jax.random.normal(jax.random.key(0), (2, 2, *size, 8))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 8, 8))
    expected, backward = jax.vjp(conv.conv2d, x, kernel)
    actual, fast_backward = jax.vjp(winograd.trained_conv3x3, x, kernel)
    for found, wanted in zip((actual, *fast_backward(dy)), (expected, *backward(dy)), strict=True):
        # As above; sums over positions and images in the gradient of the kernel.
        np.testing.assert_allclose(found, wanted, atol=5e-5 * float(jnp.abs(wanted).max()))


def test_training_keeps_weights_and_their_names_and_half_types_stay_direct():
    model = block.ConvBlock(64, 64, rngs=nnx.Rngs(0))
    skeleton, variables = functional.split(model)
    fast, same = winograd.accelerate_training(skeleton, variables)
    jax.tree.map(np.testing.assert_array_equal, same, variables)
    x = jax.random.normal(jax.random.key(2), (1, 9, 9, 64))
    np.testing.assert_allclose(functional.merge(fast, same)(x), model(x), atol=1e-4)
    half = x.astype(jnp.bfloat16)
    np.testing.assert_array_equal(functional.merge(fast, same)(half), model(half))


def test_only_wide_convolutions_of_stride_one_are_replaced():
    class Pair(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.wide = block.ConvBlock(64, 64, rngs=rngs)
            self.strided = block.ConvBlock(64, 64, stride=2, rngs=rngs)
            self.narrow = block.ConvBlock(64, 16, rngs=rngs)

        def __call__(self, x):
            return self.narrow(self.strided(self.wide(x)))

    skeleton, variables = functional.split(Pair())
    fast = functional.merge(*winograd.accelerate(skeleton, variables))
    kinds = [type(b.conv).__name__ for b in (fast.wide, fast.strided, fast.narrow)]
    assert kinds == ["WinogradConv", "Conv", "Conv"]
    x = jax.random.normal(jax.random.key(2), (1, 9, 9, 64))
    np.testing.assert_allclose(fast(x), functional.merge(skeleton, variables)(x), atol=1e-4)
