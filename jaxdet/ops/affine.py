"""An affine map whose gradient takes three kernels on a GPU: two products and one sum."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped


@jax.custom_vjp
def trained_affine(
    x: Shaped[Array, "*S I"],
    kernel: Shaped[Array, "I O"],
    bias: Float[Array, " O"],
    parts: Float[Array, "K O"],
) -> Shaped[Array, "*S O"]:
    """`x @ kernel + bias`, for training on GPUs.

    The gradient of the bias goes to `parts`, which is not read: to each of its K a sum over a K-th of the
    rows of `x`, and none to `bias`. That is the first of the two kernels that XLA makes of a sum over all
    rows; the second follows the last step of a segment.
    """
    y = x @ kernel
    return y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))


def _fwd(x: Array, kernel: Array, bias: Array, parts: Array):
    return trained_affine(x, kernel, bias, parts), (x, kernel, bias, parts)


def _bwd(residuals: tuple[Array, Array, Array, Array], dy: Array):
    x, kernel, bias, parts = residuals
    inner, outer = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    dx = lax.dot_general(dy, kernel, (((dy.ndim - 1,), (1,)), ((), ())))
    # In the order of the kernel; the rule of JAX makes its transpose, and a kernel that turns it.
    dkernel = lax.dot_general(inner, outer, (((0,), (0,)), ((), ())))
    padded = jnp.pad(outer, ((0, -outer.shape[0] % parts.shape[0]), (0, 0)))
    shares = padded.reshape(parts.shape[0], -1, parts.shape[1])
    return dx, dkernel, jnp.zeros_like(bias), shares.sum(1, dtype=parts.dtype)


trained_affine.defvjp(_fwd, _bwd)
