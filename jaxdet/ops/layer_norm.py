"""Layer norm, and on GPUs its gradient as one kernel.

XLA makes seven kernels of the gradient of a layer norm: sums over the features of each row, and sums over all
rows in two stages for each of scale and bias. Here a block of threads takes a share of the rows, and leaves
its part of the sums over rows to be added after the last step of a segment (`PARTS`).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

from jaxdet.ops.group_norm_kernel import TYPES

PARTS = 128  # sums that a gradient of a scale or bias is kept in: about one for each core of a GPU
_TILE_ELEMENTS = 4096  # of the rows that a block of threads holds at once: 16 for each of 256 threads


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(
    x: Shaped[Array, "*S C"], scale: Float[Array, " C"], bias: Float[Array, " C"], eps: float
) -> Shaped[Array, "*S C"]:
    """Normalise the last axis in at least float32, the result in the type of `x`.

    The gradient is written out: XLA's CPU backend makes loops of the derived one that take up to four
    times as long.
    """
    normed, _ = _normed(x, eps)
    shape = (1,) * (x.ndim - 1) + (-1,)
    return (normed * scale.reshape(shape) + bias.reshape(shape)).astype(x.dtype)


def _normed(x: Array, eps: float) -> tuple[Array, Array]:
    """Normalised values, and the factor of each row."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = wide - wide.mean(-1, keepdims=True)
    inverse = lax.rsqrt((centred * centred).mean(-1, keepdims=True) + eps)
    return centred * inverse, inverse


def _plain_fwd(x: Array, scale: Array, bias: Array, eps: float):
    return layer_norm(x, scale, bias, eps), (x, scale, bias)


def _plain_bwd(eps: float, residuals: tuple[Array, Array, Array], dy: Array):
    x, scale, bias = residuals
    normed, inverse = _normed(x, eps)
    wide, axes = dy.astype(normed.dtype), tuple(range(x.ndim - 1))
    inner = wide * scale.reshape((1,) * (x.ndim - 1) + (-1,))
    along = (inner * normed).mean(-1, keepdims=True)
    dx = inverse * (inner - inner.mean(-1, keepdims=True) - normed * along)
    dscale, dbias = (wide * normed).sum(axes), wide.sum(axes)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(bias.dtype)


layer_norm.defvjp(_plain_fwd, _plain_bwd)


def takes(x: Shaped[Array, "*S C"]) -> bool:
    """Fitness of the kernel for `x`."""
    return x.dtype in TYPES and x.shape[-1] <= _TILE_ELEMENTS


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def trained_layer_norm(
    x: Shaped[Array, "*S C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    parts: Float[Array, "K 2 C"],
    eps: float,
    interpret: bool = False,
) -> Shaped[Array, "*S C"]:
    """`layer_norm` for training on GPUs.

    The gradient of scale and bias goes to `parts`, which is not read: to each of its K a sum over a K-th of
    the rows of `x`, and none to `scale` and `bias`. `interpret` runs the kernel on any device, slowly, for
    tests.
    """
    return layer_norm(x, scale, bias, eps)


def _fwd(x: Array, scale: Array, bias: Array, parts: Array, eps: float, interpret: bool):
    return layer_norm(x, scale, bias, eps), (x, scale, parts)


def _bwd(eps: float, interpret: bool, residuals: tuple[Array, Array, Array], dy: Array):
    # Not at the top: only GPUs need it, and it takes half a second to import.
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    x, scale, parts = residuals
    flat = (-1, scale.shape[0])
    dx, dparts = pl.pallas_call(
        partial(_gradient, eps),
        out_shape=(
            jax.ShapeDtypeStruct(x.reshape(flat).shape, x.dtype),
            jax.ShapeDtypeStruct(parts.shape, parts.dtype),
        ),
        grid=(parts.shape[0],),
        compiler_params=None if interpret else triton.CompilerParams(num_warps=8, num_stages=1),
        interpret=interpret,
        name="layer_norm_gradient",
    )(x.reshape(flat), dy.reshape(flat), scale)
    none = jnp.zeros_like(scale)
    return dx.reshape(x.shape), none, none, dparts


trained_layer_norm.defvjp(_fwd, _bwd)


def _gradient(eps: float, x: Any, dy: Any, scale: Any, dx: Any, dparts: Any):
    """Gradients of the share of rows of this block of threads, a tile of them at a time."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    (num_rows, features), parts = x.shape, dparts.shape[0]
    padded = 1 << (features - 1).bit_length()  # threads need powers of two
    tile, share = max(1, _TILE_ELEMENTS // padded), -(-num_rows // parts)
    part = pl.program_id(0)
    column = lax.iota(jnp.int32, padded)
    real = column < features
    factor = triton.load(scale.at[column], mask=real, other=0.0)[None, :]

    def add_tile(i: Array, sums: tuple[Array, Array]):
        within = i * tile + lax.iota(jnp.int32, tile)
        row = part * share + within
        mask = ((within < share) & (row < num_rows))[:, None] & real[None, :]
        place = row[:, None], column[None, :]
        values, outer = (triton.load(a.at[place], mask=mask, other=0.0).astype(jnp.float32) for a in (x, dy))
        centred = jnp.where(mask, values - jnp.sum(values, 1)[:, None] / features, 0.0)
        inverse = lax.rsqrt(jnp.sum(centred * centred, 1) / features + eps)[:, None]
        normed, inner = centred * inverse, outer * factor
        along = jnp.sum(inner * normed, 1)[:, None] / features
        inner = inverse * (inner - jnp.sum(inner, 1)[:, None] / features - normed * along)
        triton.store(dx.at[place], inner.astype(dx.dtype), mask=mask)
        return sums[0] + jnp.sum(outer * normed, 0), sums[1] + jnp.sum(outer, 0)

    none = jnp.zeros(padded, jnp.float32)
    of_scale, of_bias = lax.fori_loop(0, -(-share // tile), add_tile, (none, none))
    for which, total in enumerate((of_scale, of_bias)):
        triton.store(dparts.at[part, which, column], total.astype(dparts.dtype), mask=real)
