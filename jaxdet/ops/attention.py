"""Attention of sparse events with a dustbin, and attention inside square windows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int


def event_attention(
    query: Float[Array, "B S H d"],
    key: Float[Array, "B E H d"],
    value: Float[Array, "B E H d"],
    cell: Int[Array, "B E"],
    dustbin: Float[Array, " H"],
    in_order: bool = True,
) -> Float[Array, "B S H d"]:
    """Each cell attends to its own events and to a dustbin with logit `dustbin` and value zero.

    `cell` is the cell of each event, ascending within a lane if `in_order`; `S` marks padding. Cells without
    events get zero. The shift by the maximum (dustbin included) carries no gradient; 1e-7 is added to the
    shifted denominator. Hamaguchi et al. 2023, HMNet, section 3.2.
    """
    one_lane = partial(_event_attention, in_order=in_order)
    return jax.vmap(one_lane, (0, 0, 0, 0, None))(query, key, value, cell, dustbin)


def _event_attention(query: Array, key: Array, value: Array, cell: Array, dustbin: Array, in_order: bool):
    wide = jnp.promote_types(query.dtype, jnp.float32)
    num_cells = query.shape[0]
    real = cell < num_cells
    row = jnp.minimum(cell, num_cells - 1)

    def total(x: Array):
        return jax.ops.segment_sum(x, cell, num_cells + 1, indices_are_sorted=in_order)[:num_cells]

    logits = (key * query[row]).astype(wide).sum(-1)
    logits = jnp.where(real[:, None], logits, -jnp.inf)
    largest = jax.ops.segment_max(
        lax.stop_gradient(logits), cell, num_cells + 1, indices_are_sorted=in_order
    )[:num_cells]
    shift = lax.stop_gradient(jnp.maximum(largest, dustbin.astype(wide)[None, :]))
    weight = jnp.exp(logits - shift[row])
    # Numerators and denominators in one sum, which is a kernel of its own on GPUs.
    weight = weight[:, :, None]
    both = total(jnp.concatenate([weight * value.astype(wide), weight], -1))
    denominator = both[:, :, -1:] + jnp.exp(dustbin.astype(wide)[None, :] - shift)[:, :, None] + 1e-7
    return (both[:, :, :-1] / denominator).astype(value.dtype)


def windows(x: Float[Array, "B H W C"], size: int) -> Float[Array, "B n {size*size} C"]:
    """Cut a grid into square windows, row-major, padded with zeros at the bottom and right."""
    b, h, w, c = x.shape
    x = jnp.pad(x, ((0, 0), (0, -h % size), (0, -w % size), (0, 0)))
    rows, columns = x.shape[1] // size, x.shape[2] // size
    x = x.reshape(b, rows, size, columns, size, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, rows * columns, size * size, c)


def unwindows(
    x: Float[Array, "B n s C"], size: int, height: int, width: int
) -> Float[Array, "B {height} {width} C"]:
    """Inverse of `windows`: put the windows back and cut the padding off."""
    b, _, _, c = x.shape
    rows, columns = -(-height // size), -(-width // size)
    x = x.reshape(b, rows, columns, size, size, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, rows * size, columns * size, c)[:, :height, :width]


def relative_positions(size: int) -> np.ndarray:
    """Index [s, s] (query, key) into a flat (2 size - 1)^2 table by the offset of the key from the query."""
    y, x = (a.reshape(-1) for a in np.mgrid[:size, :size])
    dy, dx = y[None, :] - y[:, None], x[None, :] - x[:, None]
    return (dy + size - 1) * (2 * size - 1) + dx + size - 1


def window_attention(
    query: Float[Array, "B n s H d"],
    key: Float[Array, "B n s H d"],
    value: Float[Array, "B n s H d"],
    bias: Float[Array, "H s s"],
) -> Float[Array, "B n s H d"]:
    """Softmax attention inside each window; `bias` is added to the logits. `query` comes already scaled."""
    wide = jnp.promote_types(query.dtype, jnp.float32)
    logits = jnp.einsum("bnqhd,bnkhd->bnhqk", query, key).astype(wide) + bias.astype(wide)[None, None]
    share = jax.nn.softmax(logits, -1).astype(value.dtype)
    return jnp.einsum("bnhqk,bnkhd->bnqhd", share, value)
