"""Assignment of candidate boxes to labelled boxes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxdet.ops import boxes as box_ops


class SimotaRule(NamedTuple):
    """Differences between releases of SimOTA (Ge et al. 2021, YOLOX, section 2.3)."""

    radius: float  # candidates lie within `radius` strides of a box centre
    in_box: bool  # candidates inside a box count too, and cheap ones must be both
    eps: float  # added to the IoU under the logarithm
    far_cost: float  # added to pairs that are not near


HMNET_RULE = SimotaRule(radius=2.5, in_box=True, eps=1e-7, far_cost=1e5)
YOLOX_RULE = SimotaRule(radius=1.5, in_box=False, eps=1e-8, far_cost=1e6)

_MOST_CANDIDATES = 10


class Assignment(NamedTuple):
    """Result for one image: per candidate, whether it is positive, for which box, and at which IoU."""

    positive: Bool[Array, " A"]
    box: Int[Array, " A"]
    iou: Float[Array, " A"]


def simota(
    truth: Float[Array, "M 4"],
    labels: Int[Array, " M"],
    box_mask: Bool[Array, " M"],
    predicted: Float[Array, "A 4"],
    class_logits: Float[Array, "A C"],
    object_logits: Float[Array, " A"],
    centres: Float[Array, "A 2"],
    strides: Float[Array, " A"],
    rule: SimotaRule,
) -> Assignment:
    """Assign the candidates of one image to its boxes at the least cost; no gradient passes.

    `truth` and `predicted` are `xyxy` pixels, `centres` the cell centres in pixels. Each box takes its k
    cheapest candidates, k being the floor of the sum of its ten largest IoUs, at least 1; a candidate claimed
    by several boxes goes to the one of least cost. An image without boxes or without candidates has no
    positives.
    """
    inputs = (truth, predicted, class_logits, object_logits, centres, strides)
    dtype = jnp.promote_types(predicted.dtype, jnp.float32)
    truth, predicted, class_logits, object_logits, centres, strides = (
        lax.stop_gradient(a).astype(dtype) for a in inputs
    )
    inside, near = _geometry(truth, centres, strides, rule)
    candidate = ((inside | near) & box_mask[:, None]).any(0)
    pair = candidate[None, :] & box_mask[:, None]
    iou = jnp.where(pair, box_ops.pairwise_iou(truth, predicted), 0)
    cost = _class_cost(labels, class_logits, object_logits) - 3 * jnp.log(iou + rule.eps)
    cost = cost + jnp.where(inside & near, 0, rule.far_cost).astype(dtype)
    cost = jnp.where(pair, cost, jnp.inf)

    count = min(_MOST_CANDIDATES, iou.shape[1])
    wanted = jnp.maximum(lax.top_k(iou, count)[0].sum(1).astype(jnp.int32), 1)
    value, index = lax.top_k(-cost, count)
    taken = (jnp.arange(count)[None, :] < wanted[:, None]) & jnp.isfinite(value)
    claim = jax.vmap(lambda row, i, t: row.at[i].set(t))(jnp.zeros_like(pair), index, taken)

    claims = claim.sum(0)
    box = jnp.where(claims > 1, jnp.argmin(cost, 0), jnp.argmax(claim, 0))
    return Assignment(claims > 0, box.astype(jnp.int32), jnp.take_along_axis(iou, box[None, :], 0)[0])


class AnchorMatches(NamedTuple):
    """Pairs of one level and image, in the released order: five cells (G), anchors (a), boxes (M)."""

    mask: Bool[Array, "G a M"]
    row: Int[Array, "G a M"]
    column: Int[Array, "G a M"]
    box: Float[Array, "G a M 4"]  # centre from the corner of the cell, width and height, in cells


# The cell of the centre, then its neighbours to the left, above, to the right and below.
_SHIFTS = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (-0.5, 0.0), (0.0, -0.5))


def anchor_ratio(
    boxes: Float[Array, "M 4"],
    box_mask: Bool[Array, " M"],
    anchors: Float[Array, "a 2"],
    size: tuple[int, int],
    most: float,
) -> AnchorMatches:
    """YOLOv4's assignment of `boxes` (cx, cy, w, h in cells) to a level of `size` (height, width) cells.

    A box belongs to every anchor that is in both sides less than `most` times smaller or larger, in the cell
    of its centre and in those neighbours that lie less than half a cell from it.
    """
    ratio = boxes[None, :, 2:] / anchors[:, None, :]
    fits = (jnp.maximum(ratio, 1 / ratio) < most).all(-1) & box_mask[None, :]
    limit = jnp.asarray(size[::-1], boxes.dtype)[None, :]
    centre = boxes[:, :2]
    low = (centre % 1 < 0.5) & (centre > 1)
    high = ((limit - centre) % 1 < 0.5) & (limit - centre > 1)
    near = jnp.stack([jnp.ones_like(low[:, 0]), low[:, 0], low[:, 1], high[:, 0], high[:, 1]])
    shifted = centre[None] - jnp.asarray(_SHIFTS, boxes.dtype)[:, None, :]
    # The released clamp lets the centre of a box on the far border leave the grid by one cell.
    cell = jnp.clip(jnp.trunc(shifted), 0, limit[None] - 1)
    local = jnp.concatenate([centre[None] - cell, jnp.broadcast_to(boxes[None, :, 2:], cell.shape)], -1)

    mask = near[:, None, :] & fits[None]
    column, row = (jnp.broadcast_to(cell[:, None, :, i].astype(jnp.int32), mask.shape) for i in (0, 1))
    return AnchorMatches(mask, row, column, jnp.broadcast_to(local[:, None], (*mask.shape, 4)))


def last_match(matches: AnchorMatches, size: tuple[int, int]) -> Int[Array, "a _ _"]:
    """For every anchor and cell the last of the flattened pairs that lies there, or -1."""
    num = matches.mask.size
    order = jnp.where(matches.mask, jnp.arange(num).reshape(matches.mask.shape), -1)
    anchor = jnp.arange(matches.mask.shape[1]).reshape(1, -1, 1)
    anchor = jnp.broadcast_to(anchor, order.shape)
    empty = jnp.full((matches.mask.shape[1], *size), -1, order.dtype)
    return empty.at[anchor, matches.row, matches.column].max(order)


def _geometry(truth: Array, centres: Array, strides: Array, rule: SimotaRule):
    """Masks [M, A] of cell centres strictly inside each box, and within `radius` strides of its centre."""
    low, high = truth[:, None, :2], truth[:, None, 2:]
    point = centres[None, :, :]
    near = (jnp.abs(point - (low + high) / 2) < rule.radius * strides[None, :, None]).all(-1)
    if not rule.in_box:
        return near, near
    return ((point > low) & (point < high)).all(-1), near


def _class_cost(labels: Array, class_logits: Array, object_logits: Array):
    """Binary cross entropy [M, A] of sqrt(class x objectness) with the one-hot class, summed over classes.

    Logarithms are clamped at -100, as torch does.
    """
    p = jnp.sqrt(jax.nn.sigmoid(class_logits) * jax.nn.sigmoid(object_logits)[:, None])
    yes = -jnp.maximum(jnp.log(p), -100)
    no = -jnp.maximum(jnp.log1p(-p), -100)
    safe = jnp.clip(labels, 0, p.shape[1] - 1)
    return (no.sum(1)[:, None] + (yes - no)[:, safe]).T
