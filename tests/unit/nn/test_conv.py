import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdet.nn import conv, norm


@pytest.mark.parametrize(
    ("kernel", "stride", "size"), [(3, 1, (7, 6)), (3, 2, (7, 6)), (3, 2, (8, 9)), (5, 1, (6, 6))]
)
def test_loop_conv_gradients_equal_autodiff(kernel, stride, size):
    key = jax.random.key(0)
    x = jax.random.normal(key, (2, *size, 3))
    k = jax.random.normal(key, (kernel, kernel, 3, 4))
    pad = [(kernel // 2, kernel // 2)] * 2

    def plain(x, k):
        y = lax.conv_general_dilated(x, k, (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.sin(y).sum()

    expected = jax.grad(plain, (0, 1))(x, k)
    actual = jax.grad(lambda x, k: jnp.sin(conv.conv2d(x, k, stride)).sum(), (0, 1))(x, k)
    for e, a in zip(expected, actual, strict=True):
        # Sums of up to 90 float32 products in another order.
        np.testing.assert_allclose(a, e, atol=2e-5)


def test_masked_rows_do_not_reach_batch_statistics():
    x = jax.random.normal(jax.random.key(1), (3, 4, 4, 2))
    alone, padded = norm.BatchNorm(2), norm.BatchNorm(2)
    y = alone(x[:2], train=True)
    z = padded(x.at[2].set(1e6), train=True, mask=jnp.array([True, True, False]))
    np.testing.assert_allclose(z[:2], y, atol=1e-5)
    np.testing.assert_allclose(padded.var[...], alone.var[...], rtol=1e-6)
    # Unbiased variance of 32 numbers a channel, momentum 0.1, from 1.
    np.testing.assert_allclose(
        alone.var[...], 0.9 + 0.1 * np.var(np.asarray(x[:2]), (0, 1, 2), ddof=1), rtol=1e-5
    )


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_convolution_and_its_gradients_equal_the_grouped_one(size, stride):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 9, 8, 6)))
    kernel = jnp.asarray(rng.normal(size=(size, size, 1, 6)))

    def grouped(x, kernel):
        pad = [(size // 2, size // 2)] * 2
        axes = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), pad, dimension_numbers=axes, feature_group_count=6
        )

    plain = lambda x, kernel: conv.conv2d(x, kernel, stride, 6)  # noqa: E731
    expected = jax.value_and_grad(lambda *a: (grouped(*a) ** 3).sum(), (0, 1))(x, kernel)
    actual = jax.value_and_grad(lambda *a: (plain(*a) ** 3).sum(), (0, 1))(x, kernel)
    # Float32 sums of 9 to 25 products in another order, cubed.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), actual, expected)


def test_moments_in_one_pass_are_those_of_two():
    """What GPUs compute; the mean is ten deviations from the running one, of which little may be lost."""
    x = 5 + 0.5 * jax.random.normal(jax.random.key(0), (3, 8, 8, 2))
    weight, count = jnp.ones((3, 1, 1, 1)).at[2].set(0), jnp.asarray(128.0)
    found = norm._moments_in_one_pass(x, weight, count, jnp.zeros(2))
    for a, b in zip(found, norm._moments_in_two_passes(x, weight, count, jnp.zeros(2)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)
