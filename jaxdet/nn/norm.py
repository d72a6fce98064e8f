"""Normalisation layers with torch's conventions: eps as given, unbiased running variance.

Statistics are computed in at least float32 whatever the compute type.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Shaped

from jaxdet.ops import group_norm_kernel
from jaxdet.ops.layer_norm import layer_norm


def _per_channel(vector: Float[Array, "C"], ndim: int) -> Array:
    return vector.reshape((1,) * (ndim - 1) + (-1,))


def _wide(x: Shaped[Array, "*S"]) -> Float[Array, "*S"]:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class LayerNorm(nnx.Module):
    """Normalise the last axis; `scale` and `bias` [C]."""

    def __init__(self, features: int, eps: float = 1e-5):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.eps = eps

    def __call__(self, x: Shaped[Array, "*S C"]) -> Shaped[Array, "*S C"]:
        return layer_norm(x, self.scale[...], self.bias[...], self.eps)


class GroupNorm(nnx.Module):
    """Normalise over space and groups of `group_size` channels of [B, H, W, C]; `scale` and `bias` [C].

    The call also does what follows: it adds `plus`, activates by `silu`, and casts to `dtype`, each if asked.
    `in_kernel`, for inference on CUDA: all of it in `ops.group_norm_kernel`, where that takes the input.
    """

    def __init__(self, features: int, group_size: int = 32, eps: float = 1e-5):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.group_size, self.eps, self.in_kernel = group_size, eps, False

    def __call__(
        self,
        x: Shaped[Array, "B H W C"],
        plus: Shaped[Array, "B H W C"] | None = None,
        silu: bool = False,
        dtype: DTypeLike | None = None,
    ) -> Shaped[Array, "B H W C"]:
        if self.in_kernel and group_norm_kernel.takes(x, self.group_size):
            weights = self.scale[...], self.bias[...], self.group_size, self.eps
            return group_norm_kernel.group_norm(x, *weights, plus, silu, dtype)
        y = group_norm_kernel.plain_group_norm(x, self.scale[...], self.bias[...], self.group_size, self.eps)
        y = y if plus is None else plus + y
        return (jax.nn.silu(y) if silu else y).astype(dtype or x.dtype)


def _moments_in_two_passes(x: Array, weight: Array, count: Array, near: Array) -> tuple[Array, Array]:
    """Mean and biased variance [C] of the rows of `x` with `weight` 1."""
    axes = tuple(range(x.ndim - 1))
    mean = (x * weight).sum(axes) / count
    centred = (x - _per_channel(mean, x.ndim)) * weight
    return mean, (centred * centred).sum(axes) / count


def _moments_in_one_pass(x: Array, weight: Array, count: Array, near: Array) -> tuple[Array, Array]:
    """The same of sums about `near` [C], which is close to the mean, so that little cancels.

    On GPUs both sums are one kernel, and several devices exchange them at once.
    """
    axes = tuple(range(x.ndim - 1))
    centred = (x - _per_channel(near, x.ndim)) * weight
    first, second = centred.sum(axes) / count, (centred * centred).sum(axes) / count
    return near + first, jnp.maximum(second - first * first, 0)


class BatchNorm(nnx.Module):
    """Batch normalisation of the last axis with tracked statistics.

    `momentum` is torch's: running = (1 - momentum) * running + momentum * batch, the running variance being
    the unbiased one while the batch itself is normalised by the biased one. Under `jit` the batch is the
    global batch, so the statistics are synchronised over all devices. In training, rows where `mask` [B] is
    false take no part in the statistics; if no row is real the statistics stay as they are.
    """

    def __init__(self, features: int, eps: float = 1e-5, momentum: float = 0.1):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.num_batches_tracked = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.eps, self.momentum = eps, momentum

    def __call__(
        self, x: Shaped[Array, "B *S C"], train: bool = False, mask: Bool[Array, "B"] | None = None
    ) -> Shaped[Array, "B *S C"]:
        if train:
            mean, var = self._update(_wide(x), mask)
        else:
            mean, var = self.mean[...], self.var[...]
        scale = self.scale[...] * lax.rsqrt(var + self.eps)
        shift = self.bias[...] - mean * scale
        y = _wide(x) * _per_channel(scale, x.ndim) + _per_channel(shift, x.ndim)
        return y.astype(x.dtype)

    def _update(
        self, x: Float[Array, "B *S C"], mask: Bool[Array, "B"] | None
    ) -> tuple[Float[Array, "C"], Float[Array, "C"]]:
        per_row = x[0].size // x.shape[-1]
        if mask is None:
            weight, count = jnp.ones((), x.dtype), jnp.asarray(x.shape[0] * per_row, x.dtype)
        else:
            weight = mask.astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - 1))
            count = mask.sum().astype(x.dtype) * per_row
        safe = jnp.maximum(count, 1)
        near = lax.stop_gradient(self.mean[...]).astype(x.dtype)
        mean, var = lax.platform_dependent(
            x, weight, safe, near, cpu=_moments_in_two_passes, default=_moments_in_one_pass
        )
        unbiased = var * safe / jnp.maximum(count - 1, 1)
        rate = jnp.where(count > 0, self.momentum, 0).astype(self.mean[...].dtype)
        old_mean, old_var, seen = self.mean[...], self.var[...], self.num_batches_tracked[...]
        new_mean = old_mean + rate * (mean.astype(rate.dtype) - old_mean)
        new_var = old_var + rate * (unbiased.astype(rate.dtype) - old_var)
        # Not `x[...] = y`: it compares shardings, which takes time in proportion to the program traced so
        # far.
        self.mean.set_value(lax.stop_gradient(new_mean))
        self.var.set_value(lax.stop_gradient(new_var))
        self.num_batches_tracked.set_value(seen + (count > 0).astype(jnp.int32))
        return mean, var
