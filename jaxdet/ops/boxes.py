"""Box layouts, intersection over union, clipping."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


def cxcywh_to_xyxy(boxes: Shaped[Array, "*S 4"]) -> Shaped[Array, "*S 4"]:
    """Centre, width, height -> corners; same unit in and out."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return jnp.concatenate([centre - half, centre + half], -1)


def xyxy_to_cxcywh(boxes: Shaped[Array, "*S 4"]) -> Shaped[Array, "*S 4"]:
    """Corners -> centre, width, height; same unit in and out."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([(low + high) / 2, high - low], -1)


def area(boxes: Shaped[Array, "*S 4"]) -> Shaped[Array, "*S"]:
    """Area of `xyxy` boxes in square pixels; negative sides count as zero."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def intersection(a: Shaped[Array, "*S 4"], b: Shaped[Array, "*S 4"]) -> Shaped[Array, "*S"]:
    """Overlap area of paired `xyxy` boxes in square pixels."""
    sides = jnp.minimum(a[..., 2:], b[..., 2:]) - jnp.maximum(a[..., :2], b[..., :2])
    sides = jnp.maximum(sides, 0)
    return sides[..., 0] * sides[..., 1]


def pairwise_iou(
    a: Shaped[Array, "*S M 4"], b: Shaped[Array, "*S A 4"], eps: float = 0.0
) -> Shaped[Array, "*S M A"]:
    """IoU of boxes `a` [..., M, 4] with `b` [..., A, 4], xyxy pixels -> [..., M, A].

    `eps` is added to the union. A pair whose union is zero (both boxes empty) has IoU 0.
    """
    a, b = a[..., :, None, :], b[..., None, :, :]
    sides = jnp.minimum(a[..., 2:], b[..., 2:]) - jnp.maximum(a[..., :2], b[..., :2])
    sides = jnp.maximum(sides, 0)
    inter = sides[..., 0] * sides[..., 1]
    union = area(a) + area(b) - inter + eps
    return jnp.where(union > 0, inter / jnp.where(union > 0, union, 1), 0)


def clip(boxes: Float[Array, "*S 4"], width: float, height: float) -> Float[Array, "*S 4"]:
    """Corners moved into [0, width] x [0, height], pixels."""
    limit = jnp.asarray([width, height, width, height], boxes.dtype)
    limit = limit.reshape((1,) * (boxes.ndim - 1) + (4,))
    return jnp.clip(boxes, 0, limit)
