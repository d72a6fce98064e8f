"""Greedy suppression as one GPU kernel, so that no loop of it waits for the host.

A greedy choice takes as many rounds as boxes survive, which only the boxes tell: as XLA operations the loop
asks the host before every round. Here a block of threads holds all candidates of an image and loops alone.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

# Candidates of an image that a block of threads takes.
MAX_CANDIDATES = 16_384
_PER_WARP = 512  # candidates: 16 for each of its threads


def takes(boxes: Array) -> bool:
    """Fitness of the kernel for `boxes` [..., A, 4]."""
    return boxes.dtype == jnp.float32 and boxes.shape[-2] <= MAX_CANDIDATES


def suppress(
    boxes: Float[Array, "S A 4"],
    labels: Int[Array, "S A"],
    mask: Bool[Array, "S A"],
    iou_threshold: float,
    limit: int | None = None,
    interpret: bool = False,
) -> Bool[Array, "S A"]:
    """Mask of the boxes that survive, the best being first; the same as `nms.suppress` of each of S images.

    With `limit` the kernel ends after that many survivors; later ones are missing.
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
        partial(_kernel, float(iou_threshold), count if limit is None else limit),
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
    limit: int,
    left: Any,
    top: Any,
    right: Any,
    bottom: Any,
    label: Any,
    mask: Any,
    kept: Any,
):
    """Keep the first box that is left, remove what it suppresses, until none is left."""
    x0, y0, x1, y1 = left[...], top[...], right[...], bottom[...]
    labels, size = label[...], mask.shape[0]
    index = lax.iota(jnp.int32, size)

    def area_of(x0: Array, y0: Array, x1: Array, y1: Array):
        return jnp.maximum(x1 - x0, 0.0) * jnp.maximum(y1 - y0, 0.0)

    area = area_of(x0, y0, x1, y1)

    def first(alive: Array):
        return jnp.min(jnp.where(alive > 0, index, size))

    def settle(state: tuple):
        alive, chosen, at, found = state
        here = index == at

        def own(column: Array):
            return jnp.sum(jnp.where(here, column, jnp.zeros_like(column)))

        a, b, c, d = own(x0), own(y0), own(x1), own(y1)
        width = jnp.maximum(jnp.minimum(x1, c) - jnp.maximum(x0, a), 0.0)
        height = jnp.maximum(jnp.minimum(y1, d) - jnp.maximum(y0, b), 0.0)
        inter = width * height
        union = area_of(a, b, c, d) + area - inter
        iou = jnp.where(union > 0, inter / jnp.where(union > 0, union, 1.0), 0.0)
        removed = (iou > threshold) & (labels == own(labels)) | here
        alive = jnp.where(removed, 0, alive)
        return alive, jnp.where(here, 1, chosen), first(alive), found + 1

    alive = mask[...]
    state = alive, jnp.zeros_like(alive), first(alive), jnp.zeros((), jnp.int32)
    kept[...] = lax.while_loop(lambda state: (state[2] < size) & (state[3] < limit), settle, state)[1]
