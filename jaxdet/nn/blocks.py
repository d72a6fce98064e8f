"""Convolution, normalisation and activation as one block."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Shaped

from jaxdet.nn.conv import Conv
from jaxdet.nn.norm import BatchNorm

# torch's default for convolutions: uniform in +-1 / sqrt(fan_in).
torch_uniform = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def mish(x: Shaped[Array, "*S"]) -> Shaped[Array, "*S"]:
    """x * tanh(softplus(x)), with one exponential: tanh(log(1 + e)) = n / (n + 2) with n = e (e + 2).

    Beyond 20 the quotient is 1 in float64 too. Half types are computed in float32, as released.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    e = jnp.exp(jnp.minimum(wide, 20))
    n = e * (e + 2)
    return (wide * (n / (n + 2))).astype(x.dtype)


class ConvBlock(nnx.Module):
    """`activation(norm(conv(x)))` with BatchNorm; a folded block has a bias in the place of the norm."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        *,
        activation: Callable = jax.nn.silu,
        eps: float = 1e-3,
        momentum: float = 0.03,
        rngs: nnx.Rngs,
        kernel_init: Callable = torch_uniform,
    ):
        self.conv = Conv(
            in_features, out_features, kernel_size, stride, groups, rngs=rngs, kernel_init=kernel_init
        )
        self.norm: BatchNorm | None = BatchNorm(out_features, eps, momentum)
        self.activation = activation

    def __call__(
        self, x: Shaped[Array, "B H W Ci"], train: bool = False, mask: Bool[Array, " B"] | None = None
    ) -> Shaped[Array, "B Ho Wo Co"]:
        y = self.conv(x)
        if self.norm is not None:
            y = self.norm(y, train, mask)
        return self.activation(y)
