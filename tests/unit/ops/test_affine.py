import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdet.ops.affine import trained_affine


def test_gradients_are_those_of_the_formula():
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 7, 5)), rng.normal(size=(2, 7, 4))
    kernel, bias = rng.normal(size=(5, 4)), rng.normal(size=4)

    def gradients(function):
        loss = lambda *a: (function(*a) * dy).sum()  # noqa: E731
        return jax.grad(loss, (0, 1, 2))(*(jnp.asarray(a, jnp.float32) for a in (x, kernel, bias)))

    # Fourteen rows in three parts: the last is not full.
    def trained(x, kernel, bias):
        return trained_affine(x, kernel, lax.stop_gradient(bias), jnp.broadcast_to(bias, (3, 4)))

    found = gradients(trained)
    expected = gradients(lambda x, kernel, bias: x @ kernel + jnp.broadcast_to(bias, dy.shape))
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)  # float32 sums of fourteen


def test_half_products_have_a_gradient_of_the_bias_in_float32():
    x = jnp.ones((3000, 2), jnp.bfloat16)
    kernel = jnp.ones((2, 4), jnp.bfloat16)
    _, back = jax.vjp(trained_affine, x, kernel, jnp.zeros(4), jnp.zeros((2, 4)))
    dx, dkernel, _, dbias = back(jnp.ones((3000, 4), jnp.bfloat16))
    assert dx.dtype == dkernel.dtype == jnp.bfloat16
    np.testing.assert_array_equal(dbias, np.full((2, 4), 1500, np.float32))  # bfloat16 stops at 256
