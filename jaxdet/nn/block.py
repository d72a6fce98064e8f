"""Convolution, normalisation, activation: the brick of necks and heads."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Shaped

from jaxdet.nn.conv import Conv
from jaxdet.nn.norm import BatchNorm

Activation = Callable[[Array], Array]


class ConvBlock(nnx.Module):
    """`activation(norm(conv(x)))` with batch normalisation and no convolution bias.

    `nn.fold` turns it into a convolution with bias and without a norm.

    `eps` and `momentum` (torch's meaning) default to those of YOLOX and HMNet's head.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        *,
        rngs: nnx.Rngs,
        activation: Activation = jax.nn.silu,
        eps: float = 1e-3,
        momentum: float = 0.03,
        dtype: DTypeLike | None = None,
        kernel_init: Initializer | None = None,
    ):
        self.conv = Conv(
            in_features,
            out_features,
            kernel_size,
            stride,
            groups,
            rngs=rngs,
            dtype=dtype,
            kernel_init=kernel_init,
        )
        self.norm: BatchNorm | None = BatchNorm(out_features, eps, momentum)
        self.activation = activation

    def __call__(
        self, x: Shaped[Array, "B H W C"], train: bool = False, mask: Bool[Array, "B"] | None = None
    ) -> Shaped[Array, "B Ho Wo Co"]:
        y = self.conv(x)
        if self.norm is not None:
            y = self.norm(y, train, mask)
        return self.activation(y)


class DepthwiseBlock(nnx.Module):
    """A depthwise `ConvBlock` followed by a 1x1 one, which has the stride 1."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int = 3,
        stride: int = 1,
        *,
        rngs: nnx.Rngs,
        **kwargs: Any,
    ):
        self.dconv = ConvBlock(
            in_features, in_features, kernel_size, stride, in_features, rngs=rngs, **kwargs
        )
        self.pconv = ConvBlock(in_features, out_features, 1, rngs=rngs, **kwargs)

    def __call__(
        self, x: Shaped[Array, "B H W C"], train: bool = False, mask: Bool[Array, "B"] | None = None
    ) -> Shaped[Array, "B Ho Wo Co"]:
        return self.pconv(self.dconv(x, train, mask), train, mask)
