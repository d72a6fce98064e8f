"""Loss terms, element by element; the caller masks, sums and normalises."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxdet.ops import boxes as box_ops


def iou_loss(
    predicted: Float[Array, "*S 4"], truth: Float[Array, "*S 4"], eps: float = 1e-16
) -> Float[Array, "*S"]:
    """1 - IoU^2 of paired `xyxy` boxes (Yu et al. 2016, squared as in YOLOX); `eps` is added to the union."""
    inter = box_ops.intersection(predicted, truth)
    iou = inter / (box_ops.area(predicted) + box_ops.area(truth) - inter + eps)
    return 1 - iou * iou


def ciou(
    predicted: Float[Array, "*S 4"], truth: Float[Array, "*S 4"], eps: float = 1e-16
) -> Float[Array, "*S"]:
    """Complete IoU of paired (cx, cy, w, h) boxes of positive size.

    Source: Zheng et al. 2020, AAAI, equations 8 to 11.

    Parity: the weight of the aspect term passes no gradient, as in the released YOLOv4.
    """
    a, b = box_ops.cxcywh_to_xyxy(predicted), box_ops.cxcywh_to_xyxy(truth)
    (w1, h1), (w2, h2) = (jnp.moveaxis(box[..., 2:], -1, 0) for box in (predicted, truth))
    inter = box_ops.intersection(a, b)
    iou = inter / (w1 * h1 + eps + w2 * h2 - inter)
    hull = jnp.maximum(a[..., 2:], b[..., 2:]) - jnp.minimum(a[..., :2], b[..., :2])
    distance = ((predicted[..., :2] - truth[..., :2]) ** 2).sum(-1) / ((hull * hull).sum(-1) + eps)
    aspect = 4 / math.pi**2 * (jnp.arctan(w2 / h2) - jnp.arctan(w1 / h1)) ** 2
    weight = lax.stop_gradient(aspect / (1 - iou + aspect + eps))
    return iou - distance - weight * aspect


def bce_with_logits(
    logits: Float[Array, "*S"], targets: Float[Array, "*S"], positive_weight: float = 1.0
) -> Float[Array, "*S"]:
    """Binary cross entropy of `sigmoid(logits)` with `targets` in [0, 1], whose positive part is weighted."""
    tail = jnp.log1p(jnp.exp(-jnp.abs(logits)))
    if positive_weight == 1:
        return jax.nn.relu(logits) - logits * targets + tail
    weight = 1 + (positive_weight - 1) * targets
    return (1 - targets) * logits + weight * (tail + jax.nn.relu(-logits))


def focal_factor(
    logits: Float[Array, "*S"], targets: Float[Array, "*S"], gamma: float, alpha: float = 0.25
) -> Float[Array, "*S"]:
    """Factor of focal loss on the cross entropy (Lin et al. 2017, equation 5)."""
    p = jax.nn.sigmoid(logits)
    right = targets * p + (1 - targets) * (1 - p)
    return (targets * alpha + (1 - targets) * (1 - alpha)) * (1 - right) ** gamma
