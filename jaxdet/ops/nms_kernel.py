"""Greedy suppression as one GPU kernel, so that no loop of it waits for the host.

A greedy choice takes as many rounds as boxes survive, which only the boxes tell: as XLA operations the loop
asks the host before every round. Here a block of threads loops alone: over all candidates of an image at once
where every survivor is wanted, or through any number of ranked rows where the first few hundred are.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

# Candidates of an image that a block of threads takes.
MAX_CANDIDATES = 16_384
# Survivors that `best` keeps beside the rows that it looks at.
MAX_SURVIVORS = 512
_PER_WARP = 512  # candidates: 16 for each of its threads
_ROWS = 64  # ranked rows seen together: with 512 survivors 64 pairs for each thread of 16 warps


def takes(boxes: Array) -> bool:
    """Fitness of the kernel for `boxes` [..., A, 4]."""
    return boxes.dtype == jnp.float32 and boxes.shape[-2] <= MAX_CANDIDATES


def suppress(
    boxes: Float[Array, "S A 4"],
    labels: Int[Array, "S A"],
    mask: Bool[Array, "S A"],
    iou_threshold: float,
    interpret: bool = False,
) -> Bool[Array, "S A"]:
    """Mask of the boxes that survive, the best being first; the same as `nms.suppress` of each of S images.

    `interpret` runs the kernel on any device, slowly, for tests. Boxes are float32 and at most
    `MAX_CANDIDATES` an image.
    """
    # Not at the top: only GPUs need it, and it takes half a second to import.
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    num_images, count = mask.shape
    size = max(32, 1 << (count - 1).bit_length())  # threads need powers of two
    pad = ((0, 0), (0, size - count))
    columns = [jnp.pad(boxes[..., i], pad) for i in range(4)]
    whole = [*columns, jnp.pad(labels, pad), jnp.pad(mask.astype(jnp.int32), pad)]
    row = pl.BlockSpec((None, size), lambda image: (image, 0))
    kept = pl.pallas_call(
        partial(_kernel, float(iou_threshold)),
        out_shape=jax.ShapeDtypeStruct((num_images, size), jnp.int32),
        grid=(num_images,),
        in_specs=[row] * len(whole),
        out_specs=row,
        compiler_params=None if interpret else triton.CompilerParams(num_warps=_warps(size), num_stages=1),
        interpret=interpret,
        name="greedy_suppression",
    )(*whole)
    return kept[:, :count] > 0


def _warps(size: int) -> int:
    return min(16, max(1, size // _PER_WARP))


def _kernel(
    threshold: float,
    left: Any,
    top: Any,
    right: Any,
    bottom: Any,
    label: Any,
    mask: Any,
    kept: Any,
):
    """Keep the first box that is left, remove what it suppresses, until none is left."""
    boxes = tuple(column[...] for column in (left, top, right, bottom))
    labels, size = label[...], mask.shape[0]
    index = lax.iota(jnp.int32, size)

    def settle(state: tuple):
        alive, chosen, at = state
        here = index == at
        same = labels == _pick((labels,), here)[0]
        removed = _overlap(_pick(boxes, here), boxes, threshold) & same | here
        alive = jnp.where(removed, 0, alive)
        return alive, jnp.where(here, 1, chosen), _first(alive, index)

    alive = mask[...]
    state = alive, jnp.zeros_like(alive), _first(alive, index)
    kept[...] = lax.while_loop(lambda state: state[2] < size, settle, state)[1]


def best(
    boxes: Float[Array, "S A 4"],
    num: Int[Array, " S"],
    iou_threshold: float,
    limit: int,
    interpret: bool = False,
) -> Int[Array, "S limit"]:
    """Rows of the first `limit` boxes that survive, best first, then -1; `limit` is at most `MAX_SURVIVORS`.

    The boxes of an image are float32, ranked, of one class (or moved apart), and the first `num` are real.
    There may be any number of them: a block of rows is tested against the survivors so far, then its rows
    against one another, until `limit` survive.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    num_images, count, _ = boxes.shape
    pad = ((0, 0), (0, -count % _ROWS))
    columns = [jnp.pad(boxes[..., i], pad) for i in range(4)]
    size = max(32, 1 << (limit - 1).bit_length())  # threads need powers of two
    row = pl.BlockSpec((None, columns[0].shape[1]), lambda image: (image, 0))
    rows = pl.pallas_call(
        partial(_best_kernel, float(iou_threshold), limit),
        out_shape=jax.ShapeDtypeStruct((num_images, size), jnp.int32),
        grid=(num_images,),
        in_specs=[row] * 4 + [pl.BlockSpec((None, 1), lambda image: (image, 0))],
        out_specs=pl.BlockSpec((None, size), lambda image: (image, 0)),
        compiler_params=None if interpret else triton.CompilerParams(num_warps=16, num_stages=1),
        interpret=interpret,
        name="first_survivors",
    )(*columns, num[:, None].astype(jnp.int32))
    return rows[:, :limit]


def _best_kernel(
    threshold: float, limit: int, left: Any, top: Any, right: Any, bottom: Any, num: Any, rows: Any
):
    """Block after block of ranked rows: those that no survivor overlaps, then a greedy choice among them."""
    from jax.experimental import pallas as pl

    place, index, num_rows = lax.iota(jnp.int32, rows.shape[0]), lax.iota(jnp.int32, _ROWS), num[0]

    def look(state: tuple):
        start, found, survivors, chosen = state
        boxes = tuple(column[pl.ds(start, _ROWS)] for column in (left, top, right, bottom))
        pairs = _overlap(tuple(c[:, None] for c in boxes), tuple(c[None] for c in survivors), threshold)
        beaten = jnp.max(jnp.where(pairs & (place < found)[None], 1, 0), 1)
        alive = jnp.where((start + index < num_rows) & (beaten == 0), 1, 0)

        def settle(state: tuple):
            alive, at, found, survivors, chosen = state
            here, new = index == at, place == found
            box = _pick(boxes, here)
            alive = jnp.where(_overlap(box, boxes, threshold) | here, 0, alive)
            survivors = tuple(jnp.where(new, value, c) for value, c in zip(box, survivors, strict=True))
            return alive, _first(alive, index), found + 1, survivors, jnp.where(new, start + at, chosen)

        state = alive, _first(alive, index), found, survivors, chosen
        _, _, found, survivors, chosen = lax.while_loop(
            lambda state: (state[1] < _ROWS) & (state[2] < limit), settle, state
        )
        return start + _ROWS, found, survivors, chosen

    none = jnp.zeros(rows.shape, jnp.float32)
    zero = jnp.zeros((), jnp.int32)
    state = zero, zero, (none, none, none, none), jnp.full(rows.shape, -1, jnp.int32)
    rows[...] = lax.while_loop(lambda state: (state[0] < num_rows) & (state[1] < limit), look, state)[3]


def _overlap(one: tuple[Array, ...], other: tuple[Array, ...], threshold: float):
    """True where the IoU of boxes, given by their columns, is above `threshold`."""
    (a, b, c, d), (x0, y0, x1, y1) = one, other
    width = jnp.maximum(jnp.minimum(x1, c) - jnp.maximum(x0, a), 0.0)
    height = jnp.maximum(jnp.minimum(y1, d) - jnp.maximum(y0, b), 0.0)
    inter = width * height
    union = _area(*one) + _area(*other) - inter
    return jnp.where(union > 0, inter / jnp.where(union > 0, union, 1.0), 0.0) > threshold


def _area(x0: Array, y0: Array, x1: Array, y1: Array):
    return jnp.maximum(x1 - x0, 0.0) * jnp.maximum(y1 - y0, 0.0)


def _pick(columns: tuple[Array, ...], here: Array):
    """The numbers of the one row that `here` marks."""
    return tuple(jnp.sum(jnp.where(here, column, jnp.zeros_like(column))) for column in columns)


def _first(alive: Array, index: Array):
    return jnp.min(jnp.where(alive > 0, index, alive.shape[0]))
