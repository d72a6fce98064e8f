"""Weights laid out ahead for the device that runs them, so that no step converts them again."""

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Shaped

from jaxdet.nn.conv import Conv, Linear
from jaxdet.nn.functional import Skeleton, Variables, merge, replaced, split
from jaxdet.nn.norm import BatchNorm

_DIMENSIONS = ("NHWC", "OHWI", "NHWC")


class OutputMajorConv(nnx.Module):
    """The convolution of a `Conv` with its kernel as cuDNN reads it: [out, h, w, in / groups]."""

    def __init__(self, conv: Conv):
        self.kernel = nnx.Param(jnp.transpose(conv.kernel[...], (3, 0, 1, 2)))
        self.bias = nnx.Param(conv.bias[...]) if conv.bias is not None else None
        self.stride, self.groups, self.dtype = conv.stride, conv.groups, conv.dtype

    def __call__(self, x: Shaped[Array, "B H W Ci"]) -> Shaped[Array, "B Ho Wo Co"]:
        dtype = self.dtype or x.dtype
        kernel = self.kernel[...].astype(dtype)
        padding = [(k // 2, k // 2) for k in kernel.shape[1:3]]
        strides = (self.stride, self.stride)
        y = lax.conv_general_dilated(
            x.astype(dtype),
            kernel,
            strides,
            padding,
            dimension_numbers=_DIMENSIONS,
            feature_group_count=self.groups,
        )
        if self.bias is not None:
            y = y + self.bias[...].astype(dtype).reshape(1, 1, 1, -1)
        return y


class ScaleAndShift(nnx.Module):
    """A `BatchNorm` of inference whose factor and summand are known."""

    def __init__(self, norm: BatchNorm):
        factor = norm.scale[...] * lax.rsqrt(norm.var[...] + norm.eps)
        self.scale, self.bias = nnx.Param(factor), nnx.Param(norm.bias[...] - norm.mean[...] * factor)

    def __call__(
        self, x: Shaped[Array, "B *S C"], train: bool = False, mask: Array | None = None
    ) -> Shaped[Array, "B *S C"]:
        wide, shape = jnp.promote_types(x.dtype, jnp.float32), (1,) * (x.ndim - 1) + (-1,)
        y = x.astype(wide) * self.scale[...].reshape(shape) + self.bias[...].reshape(shape)
        return y.astype(x.dtype)


def known_norms(skeleton: Skeleton, variables: Variables) -> tuple[Skeleton, Variables]:
    """The same model with batch norms as `ScaleAndShift`."""
    return replaced(skeleton, variables, BatchNorm, ScaleAndShift)


def in_compute_type(
    skeleton: Skeleton, variables: Variables, of_input: DTypeLike | None = None
) -> tuple[Skeleton, Variables]:
    """The same model with kernels and biases cast to the type they are used in; results stay the same.

    `of_input` is the type of the input of those layers that compute in it, None if it is not known.
    """
    model = merge(skeleton, variables)
    for _, module in nnx.iter_modules(model):
        if not isinstance(module, Conv | Linear):
            continue
        dtype = of_input if module.dtype is None else module.dtype
        for weights in (module.kernel, module.bias):
            if weights is not None and dtype is not None:
                weights.set_value(weights[...].astype(dtype))
    return split(model)


def joined(*convs: Conv) -> Conv:
    """One convolution with the outputs of `convs`, which see the same input, one after the other."""
    kernels = [conv.kernel[...] for conv in convs]
    conv = nnx.clone(convs[0])
    conv.kernel = nnx.Param(jnp.concatenate(kernels, -1))
    if any(each.bias is not None for each in convs):
        none = [jnp.zeros(kernel.shape[-1], kernel.dtype) for kernel in kernels]
        biases = [zero if c.bias is None else c.bias[...] for c, zero in zip(convs, none, strict=True)]
        conv.bias = nnx.data(nnx.Param(jnp.concatenate(biases)))
    return conv


def output_major(skeleton: Skeleton, variables: Variables) -> tuple[Skeleton, Variables]:
    """The same model with all convolutions but pointwise ones as `OutputMajorConv`."""
    return replaced(
        skeleton,
        variables,
        Conv,
        lambda conv: conv if conv.kernel.shape[:2] == (1, 1) else OutputMajorConv(conv),
    )
