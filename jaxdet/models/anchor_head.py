"""The head of YOLOv4: objectness, class scores and box size against a few anchors per cell."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxdet.nn.conv import Conv, torch_uniform
from jaxdet.nn.functional import next_key
from jaxdet.ops import assign, losses
from jaxdet.ops import boxes as box_ops
from jaxdet.ops.select import Candidates
from jaxdet.structs import Targets

_BALANCE = {5: (4.0, 1.0, 0.5, 0.4, 0.1)}  # weight of a level's objectness, finest first
_BALANCE_OF_FEW = (4.0, 1.0, 0.4, 0.1)


class AnchorLoss(NamedTuple):
    """Weights and options of the loss; the defaults are those of the released training from scratch."""

    box: float = 0.05
    objectness: float = 1.0
    classes: float = 0.5  # at 80 classes; less in proportion with fewer
    positive_weights: tuple[float, float] = (1.0, 1.0)  # of objectness and classes
    most: float = 4.0  # a box fits an anchor that is less than so many times smaller or larger
    iou_share: float = 1.0  # objectness learns (1 - share) + share * CIoU
    focal_gamma: float = 0.0


class AnchorHead(nnx.Module):
    """One 1x1 convolution per level.

    `anchors` [levels][anchors][2] are widths and heights in pixels; `strides` are the pixels of a cell of
    each level.
    """

    loss_names = ("loss_box", "loss_obj", "loss_cls", "loss")

    def __init__(
        self,
        in_features: Sequence[int],
        anchors: Sequence[Sequence[Sequence[float | int]]],
        strides: Sequence[int],
        num_classes: int,
        *,
        rngs: nnx.Rngs,
        terms: AnchorLoss = AnchorLoss(),  # noqa: B008   (immutable)
    ):
        self.terms = terms
        self.anchors = tuple(tuple((float(w), float(h)) for w, h in level) for level in anchors)
        self.strides, self.num_classes = tuple(strides), num_classes
        self.preds = nnx.List(
            [self._pred(c, len(level), s, rngs) for c, level, s in zip(in_features, self.anchors, strides)]
        )

    def _pred(self, channels: int, num_anchors: int, stride: int, rngs: nnx.Rngs):
        outputs = num_anchors * (5 + self.num_classes)
        conv = Conv(channels, outputs, 1, use_bias=True, rngs=rngs, kernel_init=torch_uniform)
        noise = torch_uniform(next_key(rngs), (channels, outputs), jnp.float32)[0]
        # About 8 objects in an image of 640 pixels, and each class as probable as the other.
        prior = [0.0] * 4 + [math.log(8 / (640 / stride) ** 2)]
        prior += [math.log(0.6 / (self.num_classes - 0.99))] * self.num_classes
        conv.bias = nnx.data(nnx.Param(noise + jnp.asarray(prior * num_anchors)))
        return conv

    def __call__(
        self, features: Sequence[Array], train: bool = False, mask: Array | None = None
    ) -> list[Float[Array, "B a _ _ P"]]:
        """Raw outputs of each level, at least float32: x, y, w, h, objectness, classes; P = 5 + classes."""
        outputs = []
        for conv, level, x in zip(self.preds, self.anchors, features, strict=True):
            b, h, w, _ = x.shape
            y = conv(x).reshape(b, h, w, len(level), 5 + self.num_classes)
            outputs.append(y.transpose(0, 3, 1, 2, 4).astype(jnp.promote_types(y.dtype, jnp.float32)))
        return outputs

    def decode(self, outputs: list[Float[Array, "B a _ _ P"]]) -> Float[Array, "B A P"]:
        """Boxes (cx, cy, w, h, input pixels), objectness and class scores in [0, 1].

        The candidates of a level are ordered by anchor, row and column; levels come finest first.
        """
        candidates = []
        for raw, level, stride in zip(outputs, self.anchors, self.strides, strict=True):
            b, a, h, w, p = raw.shape
            score = jax.nn.sigmoid(raw)
            cells = jnp.stack(jnp.meshgrid(jnp.arange(w), jnp.arange(h)), -1).astype(raw.dtype)
            centre = (score[..., :2] * 2 - 0.5 + cells.reshape(1, 1, h, w, 2)) * stride
            size = (score[..., 2:4] * 2) ** 2 * jnp.asarray(level, raw.dtype).reshape(1, a, 1, 1, 2)
            rows = jnp.concatenate([centre, size, score[..., 4:]], -1)
            candidates.append(rows.reshape(b, a * h * w, p))
        return jnp.concatenate(candidates, 1)

    def candidates(
        self, raw: list[Float[Array, "B a _ _ P"]], sizes: Sequence[tuple[int, int]]
    ) -> Candidates:
        """Boxes, objectness and class scores of all candidates; `sizes` follow from the outputs."""
        rows = self.decode(raw)
        return Candidates(box_ops.cxcywh_to_xyxy(rows[..., :4]), rows[..., 4], rows[..., 5:])

    def loss(
        self,
        raw: list[Float[Array, "S a _ _ P"]],
        sizes: Sequence[tuple[int, int]] | None,
        targets: Targets,
        slot_mask: Bool[Array, " S"],
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Mean loss and its parts for `targets` whose arrays lead with S slots.

        Slots off the mask count nothing.
        Box and class parts are means over the pairs of a level, objectness over its cells, in all slots.
        """
        box_mask = targets.box_mask & ~targets.ignore_mask & slot_mask[:, None]
        boxes = box_ops.xyxy_to_cxcywh(targets.boxes.astype(raw[0].dtype))
        levels = []
        for level, anchors, stride in zip(raw, self.anchors, self.strides, strict=True):
            anchors = jnp.asarray(anchors, level.dtype) / stride
            sums = jax.vmap(self._level_sums, (0, 0, 0, 0, None))(
                level, boxes / stride, targets.labels, box_mask, anchors
            )
            levels.append(self._level_means(sums, level[0, ..., 0].size, slot_mask))
        box, obj, cls, pairs = (jnp.stack(part) for part in zip(*levels, strict=True))

        num = len(levels)
        balance = jnp.asarray(_BALANCE.get(num, _BALANCE_OF_FEW)[:num], obj.dtype)
        scale = 3 / num
        parts = {
            "loss_box": self.terms.box * scale * box.sum(),
            "loss_obj": self.terms.objectness * scale * (1.4 if num >= 4 else 1.0) * (obj * balance).sum(),
            "loss_cls": self.terms.classes * self.num_classes / 80 * scale * cls.sum(),
        }
        total = parts["loss_box"] + parts["loss_obj"] + parts["loss_cls"]
        return total, {**parts, "loss": total, "num_positives": pairs.sum(), "loss_weight": slot_mask.sum()}

    def _level_sums(self, raw: Array, boxes: Array, labels: Array, box_mask: Array, anchors: Array):
        """Sums (box, objectness, classes, pairs) of one slot and level: raw [a, h, w, P], boxes in cells."""
        a, size = raw.shape[0], (raw.shape[1], raw.shape[2])
        matches = assign.anchor_ratio(boxes, box_mask, anchors, size, self.terms.most)
        mask = matches.mask
        found = raw[jnp.arange(a).reshape(1, a, 1), matches.row, matches.column]
        inside = jax.nn.sigmoid(found[..., :4])
        side = (inside[..., 2:] * 2) ** 2 * anchors.reshape(1, a, 1, 2)
        predicted = jnp.concatenate([inside[..., :2] * 2 - 0.5, side], -1)
        # Padding is made harmless before the loss: its gradient must not be 0 x inf.
        predicted, truth = (jnp.where(mask[..., None], b, 1) for b in (predicted, matches.box))
        overlap = losses.ciou(predicted, truth)
        box = jnp.where(mask, 1 - overlap, 0).sum()

        share = self.terms.iou_share
        quality = 1 - share + share * lax.stop_gradient(jnp.maximum(overlap, 0))
        owner = assign.last_match(matches, size)
        target = jnp.where(owner >= 0, quality.reshape(-1)[owner], 0)
        obj = self._entropy(raw[..., 4], target, self.terms.positive_weights[0]).sum()

        cls = jnp.zeros_like(box)
        if self.num_classes > 1:
            wanted = jax.nn.one_hot(labels, self.num_classes, dtype=raw.dtype)
            wanted = jnp.broadcast_to(wanted[None, None], found[..., 5:].shape)
            cls = self._entropy(found[..., 5:], wanted, self.terms.positive_weights[1])
            cls = jnp.where(mask[..., None], cls, 0).sum()
        return box, obj, cls, mask.sum()

    def _level_means(self, sums: tuple[Array, Array, Array, Array], cells_per_slot: int, slot_mask: Array):
        box, obj, cls, pairs = sums
        pairs = pairs.sum()
        number = jnp.maximum(pairs, 1).astype(box.dtype)
        cells = jnp.maximum(slot_mask.sum(), 1).astype(box.dtype) * cells_per_slot
        obj = jnp.where(slot_mask, obj, 0).sum() / cells
        return box.sum() / number, obj, cls.sum() / (number * self.num_classes), pairs

    def _entropy(self, logits: Array, targets: Array, positive_weight: float):
        loss = losses.bce_with_logits(logits, targets, positive_weight)
        if self.terms.focal_gamma > 0:
            loss = loss * losses.focal_factor(logits, targets, self.terms.focal_gamma)
        return loss
