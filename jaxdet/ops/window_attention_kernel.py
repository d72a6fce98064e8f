"""Attention inside square windows as one GPU kernel, which reads its windows from the grid itself.

Cutting a grid into windows, two small products, a softmax and putting the windows back are nine kernels of
XLA for a few hundred cells; here a block of threads does all of it for one head of one window.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

from jaxdet.ops.group_norm_kernel import TYPES

_LEAST, _MOST = 16, 128  # features of a head that tensor cores and registers take


def takes(query: Shaped[Array, "B H W D"], num_heads: int) -> bool:
    """Fitness of the kernel for `query` and its heads."""
    features = query.shape[-1] // num_heads
    return query.dtype in TYPES and features & (features - 1) == 0 and _LEAST <= features <= _MOST


def window_attention(
    query: Shaped[Array, "B H W D"],
    key_value: Shaped[Array, "B H W 2*D"],
    outside: Shaped[Array, " 2*D"],
    bias: Float[Array, "h s s"],
    size: int,
    interpret: bool = False,
) -> Shaped[Array, "B H W D"]:
    """Softmax attention of h heads inside windows of `size` cells a side, s = size * size.

    Queries are scaled here; `outside` is the key and value of cells of the last windows that the grid lacks.
    `interpret` runs the kernel on any device, slowly, for tests.
    """
    # Not at the top: only GPUs need it, and it takes half a second to import.
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    images, height, width, features = query.shape
    num_heads = bias.shape[0]
    flat = query.reshape(images, height * width, features)
    found = pl.pallas_call(
        partial(_kernel, (height, width), size, features // num_heads),
        out_shape=jax.ShapeDtypeStruct(flat.shape, flat.dtype),
        grid=(images, -(-height // size) * -(-width // size), num_heads),
        compiler_params=None if interpret else triton.CompilerParams(num_warps=4, num_stages=1),
        interpret=interpret,
        name="window_attention",
    )(flat, key_value.reshape(images, height * width, 2 * features), outside, bias)
    return found.reshape(query.shape)


def _kernel(
    grid: tuple[int, int],
    size: int,
    head_features: int,
    query: Any,
    key_value: Any,
    outside: Any,
    bias: Any,
    out: Any,
):
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    (height, width), cells = grid, size * size
    padded = 1 << (cells - 1).bit_length()  # threads need powers of two
    image, window, head = (pl.program_id(axis) for axis in range(3))
    across = -(-width // size)
    cell = lax.iota(jnp.int32, padded)
    y, x = window // across * size + cell // size, window % across * size + cell % size
    inside = (cell < cells) & (y < height) & (x < width)
    rows = (y * width + x)[:, None]
    columns = head * head_features + lax.iota(jnp.int32, head_features)[None, :]
    mask = jnp.broadcast_to(inside[:, None], (padded, head_features))

    def read(ref: Any, columns: Array):
        return triton.load(ref.at[image, rows, columns], mask=mask, other=0.0)

    def read_or_outside(first: int):
        value = read(key_value, first + columns)
        beyond = outside[first + columns[0]][None, :].astype(value.dtype)
        return jnp.where(mask, value, beyond)

    all_features = out.shape[-1]
    q = read(query, columns) * jnp.asarray(head_features**-0.5, query.dtype)
    key, value = read_or_outside(0), read_or_outside(all_features)
    pairs = (cell < cells)[:, None] & (cell < cells)[None, :]
    positions = triton.load(bias.at[head, cell[:, None], cell[None, :]], mask=pairs, other=0.0)
    logits = jnp.dot(q, key.T, preferred_element_type=jnp.float32) + positions.astype(jnp.float32)
    logits = jnp.where((cell < cells)[None, :], logits, -jnp.inf)
    share = jnp.exp(logits - jnp.max(logits, 1)[:, None])
    share = share / jnp.sum(share, 1)[:, None]
    found = jnp.dot(share.astype(value.dtype), value, preferred_element_type=jnp.float32)
    triton.store(out.at[image, rows, columns], found.astype(out.dtype), mask=mask)
