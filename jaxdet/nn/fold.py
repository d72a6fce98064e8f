"""Batch normalisation folded into the convolution before it, for inference."""

import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxdet.nn.block import ConvBlock
from jaxdet.nn.conv import Conv
from jaxdet.nn.functional import Skeleton, Variables, merge, split
from jaxdet.nn.norm import BatchNorm


def fold(skeleton: Skeleton, variables: Variables) -> tuple[Skeleton, Variables]:
    """The same model with the norm of every `ConvBlock` folded into its convolution.

    The new kernel is w g and the new bias beta - g mean, with g = scale / sqrt(var + eps).

    Norms that stand alone (those of CSP blocks, before their activation) stay. Nothing is changed in place.
    """
    model = merge(skeleton, variables)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, ConvBlock) and module.norm is not None:
            _fold_norm(module.conv, module.norm)
            module.norm = None
    return split(model)


def _fold_norm(conv: Conv, norm: BatchNorm) -> None:
    gain = norm.scale[...] * lax.rsqrt(norm.var[...] + norm.eps)
    bias = norm.bias[...] - gain * norm.mean[...]
    if conv.bias is not None:
        bias = bias + gain * conv.bias[...]
    conv.kernel = nnx.Param(conv.kernel[...] * jnp.reshape(gain, (1, 1, 1, -1)))
    conv.bias = nnx.data(nnx.Param(bias))
