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
