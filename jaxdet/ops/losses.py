"""Loss terms, element by element; the caller masks, sums and normalises."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdet.ops import boxes as box_ops


def iou_loss(
    predicted: Float[Array, "*S 4"], truth: Float[Array, "*S 4"], eps: float = 1e-16
) -> Float[Array, "*S"]:
    """1 - IoU^2 of paired `xyxy` boxes (Yu et al. 2016, squared as in YOLOX); `eps` is added to the union."""
    inter = box_ops.intersection(predicted, truth)
    iou = inter / (box_ops.area(predicted) + box_ops.area(truth) - inter + eps)
    return 1 - iou * iou


def bce_with_logits(logits: Float[Array, "*S"], targets: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Binary cross entropy of `sigmoid(logits)` with `targets` in [0, 1]."""
    return jax.nn.relu(logits) - logits * targets + jnp.log1p(jnp.exp(-jnp.abs(logits)))
