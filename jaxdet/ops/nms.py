"""Exact greedy non-maximum suppression with static shapes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxdet.ops import boxes as box_ops
from jaxdet.ops import nms_kernel

_BLOCK = 256


def nms(
    boxes: Float[Array, "*S A 4"],
    scores: Float[Array, "*S A"],
    labels: Int[Array, "*S A"],
    mask: Bool[Array, "*S A"],
    iou_threshold: float,
    in_kernel: bool = False,
) -> tuple[Int[Array, "*S A"], Bool[Array, "*S A"]]:
    """Greedy suppression per class.

    A box is removed if a kept box of its class and of higher rank has an IoU above `iou_threshold` with it.

    Returns `order`, the indices of all boxes with the real ones first by falling score (ties: lower index
    first), and `keep`, in that order: true for boxes that are real and survive. No box is lost to a cap.
    `xyxy` pixels.

    The work is that of the real candidates, not of `A`: boxes are ranked, cut in blocks, and the loops stop
    after the last block that holds a real one. `in_kernel`, for CUDA: as one kernel, where `nms_kernel` takes
    that many float32 boxes.
    """
    lead = mask.shape[:-1]
    flat = tuple(a.reshape((-1, *a.shape[len(lead) :])) for a in (boxes, scores, labels, mask))
    if in_kernel and nms_kernel.takes(boxes):
        order, keep = _nms_in_kernel(flat, iou_threshold)
        return order.reshape(mask.shape), keep.reshape(mask.shape)
    # A loop over images, not a batched one: each stops after its own number of candidates.
    order, keep = lax.map(lambda args: _nms(args, iou_threshold), flat)
    return order.reshape(mask.shape), keep.reshape(mask.shape)


def _nms(image: tuple[Array, ...], iou_threshold: float):
    boxes, scores, labels, mask = image
    _, order = lax.top_k(jnp.where(mask, scores, -jnp.inf), mask.shape[0])
    keep = suppress(boxes[order], labels[order], mask[order], iou_threshold)
    return order.astype(jnp.int32), keep


def _nms_in_kernel(images: tuple[Array, ...], iou_threshold: float):
    boxes, scores, labels, mask = images
    _, order = lax.top_k(jnp.where(mask, scores, -jnp.inf), mask.shape[-1])
    order = order.astype(jnp.int32)
    boxes, labels, mask = take((boxes, labels, mask), order)
    return order, nms_kernel.suppress(boxes, labels, mask, iou_threshold)


def suppress(
    boxes: Float[Array, "A 4"],
    labels: Int[Array, " A"],
    mask: Bool[Array, " A"],
    iou_threshold: float,
    limit: int | None = None,
) -> Bool[Array, " A"]:
    """Mask of the boxes that survive, the best being first and those off the mask last.

    With `limit` the work ends soon after that many survivors, which are right; later ones may be missing.
    """
    count = mask.shape[0]
    block = min(_BLOCK, count)
    num_blocks = -(-count // block)
    pad = num_blocks * block - count
    boxes, labels, alive = (
        jnp.pad(boxes, ((0, pad), (0, 0))),
        jnp.pad(labels, (0, pad)),
        jnp.pad(mask, (0, pad)),
    )

    def at(array: Array, index: Array):
        return lax.dynamic_slice_in_dim(array, index * block, block)

    def suppresses(a: Array, b: Array):
        """[block, block]: box i of block `a` would remove box j of block `b`."""
        same = at(labels, a)[:, None] == at(labels, b)[None, :]
        return (box_ops.pairwise_iou(at(boxes, a), at(boxes, b)) > iou_threshold) & same

    def settle(state: tuple):
        """Decide one block, all earlier blocks being decided."""
        index, keep, found = state

        def against(earlier: Array, candidates: Array):
            return candidates & ~(suppresses(earlier, index) & at(keep, earlier)[:, None]).any(0)

        candidates = lax.fori_loop(0, index, against, at(alive, index))
        kept = _within(suppresses(index, index), candidates)
        return (
            index + 1,
            lax.dynamic_update_slice_in_dim(keep, kept, index * block, 0),
            found + kept.sum(dtype=jnp.int32),
        )

    used = (mask.sum() + block - 1) // block
    enough = count if limit is None else limit

    def unfinished(state: tuple):
        index, _, found = state
        return (index < used) & (found < enough)

    zero = jnp.zeros((), jnp.int32)
    _, keep, _ = lax.while_loop(unfinished, settle, (zero, jnp.zeros_like(alive), zero))
    return keep[:count]


def _within(matrix: Array, candidates: Array):
    """Greedy choice inside one ranked block as a fixed point.

    Repeating "keep what no kept box of higher rank suppresses" settles at least one more rank a round; the
    fixed point is unique and is the greedy result. The number of rounds is the longest chain of suppressions.
    """
    higher = jnp.triu(matrix, 1)

    def again(state: tuple):
        kept, _ = state
        following = candidates & ~(higher & kept[:, None]).any(0)
        return following, jnp.any(following != kept)

    kept, _ = lax.while_loop(lambda state: state[1], again, (candidates, jnp.array(True)))
    return kept


def take(tree: Any, order: Int[Array, "S A"]):
    """Rows of every array [S, A, ...] of `tree` in the order that `nms` returned."""

    def rows(a: Array):
        index = order.reshape(order.shape + (1,) * (a.ndim - 2))
        return jnp.take_along_axis(a, index, 1)

    return jax.tree.map(rows, tree)
