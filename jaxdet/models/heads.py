"""Detection heads, which turn feature maps into candidate boxes, and their losses."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from jaxdet.nn.block import ConvBlock, DepthwiseBlock
from jaxdet.nn.conv import Conv, torch_uniform
from jaxdet.ops import assign, losses
from jaxdet.ops import boxes as box_ops
from jaxdet.ops.select import Candidates
from jaxdet.structs import Targets

Sizes = Sequence[tuple[int, int]]

# Initial probability 0.01 of a class and of an object (Lin et al. 2017, focal loss, section 3.3).
_RARE = -float(np.log(99))

_IOU_WEIGHT = 5.0


class HeadLevel(nnx.Module):
    """One pyramid level: [S, h, w, Ci] -> [S, h, w, 5 + classes] as box (4), object, classes."""

    def __init__(
        self,
        in_features: int,
        hidden: int,
        num_classes: int,
        stem: bool,
        depthwise: bool,
        dtype: DTypeLike | None,
        *,
        rngs: nnx.Rngs,
    ):
        brick = DepthwiseBlock if depthwise else ConvBlock
        kwargs = {"rngs": rngs, "dtype": dtype, "kernel_init": torch_uniform}
        width = hidden if stem else in_features
        self.stem = ConvBlock(in_features, hidden, 1, **kwargs) if stem else None
        self.cls_conv = nnx.List([brick(width, hidden, **kwargs), brick(hidden, hidden, **kwargs)])
        self.reg_conv = nnx.List([brick(width, hidden, **kwargs), brick(hidden, hidden, **kwargs)])
        self.cls_pred = Conv(hidden, num_classes, 1, use_bias=True, **kwargs)
        self.reg_pred = Conv(hidden, 4, 1, use_bias=True, **kwargs)
        self.obj_pred = Conv(hidden, 1, 1, use_bias=True, **kwargs)
        self.both: ConvBlock | None = None
        for prediction in (self.cls_pred, self.obj_pred):
            assert prediction.bias is not None
            prediction.bias.set_value(jnp.full_like(prediction.bias[...], _RARE))

    def __call__(self, x: Array, train: bool = False, mask: Array | None = None):
        if self.stem is not None:
            x = self.stem(x, train, mask)
        cls = reg = x
        if self.both is not None:
            cls, reg = jnp.split(self.both(x, train, mask), 2, -1)
        for cls_block, reg_block in zip(self.cls_conv, self.reg_conv, strict=True):
            cls, reg = cls_block(cls, train, mask), reg_block(reg, train, mask)
        return jnp.concatenate([self.reg_pred(reg), self.obj_pred(reg), self.cls_pred(cls)], -1)


class DecoupledHead(nnx.Module):
    """The anchor-free head of YOLOX (Ge et al. 2021) and HMNet: SimOTA, IoU + BCE + BCE.

    Differences between the two are arguments. `stem` puts a 1x1 block before the branches, `depthwise` makes
    the 3x3 convolutions depthwise, and `rule` is that of the assignment. `integer_boxes` takes labels through
    integer centres, as HMNet does. With `ignored_as_background` boxes marked "ignore" are deleted; otherwise
    they take part in the assignment and their candidates are left out of all terms, though still counted.
    """

    loss_names = ("loss_cls", "loss_bbox", "loss_obj", "loss_iou", "loss")  # as the released logs order them

    def __init__(
        self,
        in_features: Sequence[int],
        num_classes: int,
        hidden: int = 256,
        strides: Sequence[int] = (8, 16, 32),
        *,
        rngs: nnx.Rngs,
        stem: bool = True,
        depthwise: bool = False,
        rule: assign.SimotaRule = assign.YOLOX_RULE,
        integer_boxes: bool = False,
        ignored_as_background: bool = True,
        dtype: DTypeLike | None = None,
    ):
        self.levels = nnx.List(
            [HeadLevel(n, hidden, num_classes, stem, depthwise, dtype, rngs=rngs) for n in in_features]
        )
        self.strides, self.num_classes, self.rule = tuple(strides), num_classes, rule
        self.integer_boxes, self.ignored_as_background = integer_boxes, ignored_as_background

    def __call__(
        self, features: Sequence[Array], train: bool = False, mask: Array | None = None
    ) -> Float[Array, "S A O"]:
        """Raw outputs of all levels, row-major within a level, in at least float32.

        `mask` [S] tells which slots are real; only they reach the batch statistics.
        """
        raw = [level(x, train, mask) for level, x in zip(self.levels, features, strict=True)]
        flat = jnp.concatenate([r.reshape(r.shape[0], -1, r.shape[-1]) for r in raw], 1)
        return flat.astype(jnp.promote_types(flat.dtype, jnp.float32))

    def cells(self, sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
        """Column and row [A, 2] and stride [A] of every candidate, for level sizes (h, w)."""
        corners, strides = [], []
        for (h, w), stride in zip(sizes, self.strides, strict=True):
            y, x = np.mgrid[:h, :w]
            corners.append(np.stack([x.reshape(-1), y.reshape(-1)], -1))
            strides.append(np.full(h * w, stride))
        return np.concatenate(corners), np.concatenate(strides)

    def decode(self, raw: Float[Array, "S A O"], sizes: Sizes) -> Float[Array, "S A 4"]:
        """Candidate boxes, `xyxy` input pixels."""
        corner, stride = self.cells(sizes)
        corner, stride = jnp.asarray(corner, raw.dtype)[None], jnp.asarray(stride, raw.dtype)[None, :, None]
        centre = (raw[..., :2] + corner) * stride
        size = jnp.exp(raw[..., 2:4]) * stride
        return box_ops.cxcywh_to_xyxy(jnp.concatenate([centre, size], -1))

    def encode(self, boxes: Float[Array, "S A 4"], sizes: Sizes) -> Float[Array, "S A 4"]:
        """Raw outputs that decode to `boxes`; sides of no length are taken for 1e-8 strides."""
        corner, stride = self.cells(sizes)
        corner, stride = (
            jnp.asarray(corner, boxes.dtype)[None],
            jnp.asarray(stride, boxes.dtype)[None, :, None],
        )
        rows = box_ops.xyxy_to_cxcywh(boxes) / stride
        return jnp.concatenate([rows[..., :2] - corner, jnp.log(rows[..., 2:] + 1e-8)], -1)

    def candidates(self, raw: Float[Array, "S A O"], sizes: Sizes) -> Candidates:
        """Boxes, objectness and class scores of all candidates."""
        return Candidates(self.decode(raw, sizes), jax.nn.sigmoid(raw[..., 4]), jax.nn.sigmoid(raw[..., 5:]))

    def loss(
        self,
        raw: Float[Array, "S A O"],
        sizes: Sizes,
        targets: Targets,
        slot_mask: Bool[Array, " S"],
        l1_weight: Float[Array, ""] | None = None,
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Total loss and its parts for `targets` whose arrays lead with S slots.

        Slots off the mask count nothing. All parts are sums over the number of positives. `l1_weight`: of the
        distance of raw boxes from what decodes to the matched ones, which YOLOX adds (1) in its last epochs.
        """
        truth = _integer_boxes(targets.boxes) if self.integer_boxes else targets.boxes
        truth = truth.astype(raw.dtype)
        box_mask = targets.box_mask & slot_mask[:, None]
        if self.ignored_as_background:
            box_mask = box_mask & ~targets.ignore_mask
        predicted = self.decode(raw, sizes)
        assigned = self.assign(raw, predicted, sizes, truth, targets.labels, box_mask)

        row = assigned.box
        scored = jnp.broadcast_to(slot_mask[:, None], row.shape)
        if not self.ignored_as_background:
            scored = scored & ~(assigned.positive & jnp.take_along_axis(targets.ignore_mask, row, 1))
        positive = assigned.positive & scored
        number = jnp.maximum(assigned.positive.sum(), 1).astype(raw.dtype)

        matched = jnp.take_along_axis(truth, row[..., None], 1)
        # Chosen before the loss: a far-off candidate may overflow, and its gradient must not be 0 x inf.
        iou = losses.iou_loss(jnp.where(positive[..., None], predicted, matched), matched)
        iou = jnp.where(positive, iou, 0).sum()
        obj = losses.bce_with_logits(raw[..., 4], positive.astype(raw.dtype))
        obj = jnp.where(scored, obj, 0).sum()
        label = jnp.take_along_axis(targets.labels, row, 1)
        target = jax.nn.one_hot(label, self.num_classes, dtype=raw.dtype) * assigned.iou[..., None]
        cls = losses.bce_with_logits(raw[..., 5:], lax.stop_gradient(target))
        cls = jnp.where(positive[..., None], cls, 0).sum()

        l1 = jnp.zeros((), raw.dtype)
        if l1_weight is not None:
            distance = jnp.abs(raw[..., :4] - self.encode(matched, sizes)).sum(-1)
            l1 = jnp.where(positive, distance, 0).sum() * l1_weight.astype(raw.dtype)

        parts = {
            "loss_cls": cls / number,
            "loss_bbox": l1 / number,
            "loss_obj": obj / number,
            "loss_iou": _IOU_WEIGHT * iou / number,
        }
        total = parts["loss_cls"] + parts["loss_obj"] + parts["loss_iou"] + parts["loss_bbox"]
        positives = assigned.positive.sum()
        return total, {**parts, "loss": total, "num_positives": positives, "loss_weight": positives}

    def assign(
        self, raw: Array, predicted: Array, sizes: Sizes, truth: Array, labels: Array, box_mask: Array
    ) -> assign.Assignment:
        """`ops.assign.simota` for each of S slots: raw [S, A, O], predicted and truth `xyxy` pixels."""
        corner, stride = self.cells(sizes)
        stride = jnp.asarray(stride, raw.dtype)
        centres = (jnp.asarray(corner, raw.dtype) + 0.5) * stride[:, None]

        def one(truth: Array, labels: Array, box_mask: Array, predicted: Array, raw: Array):
            return assign.simota(
                truth, labels, box_mask, predicted, raw[:, 5:], raw[:, 4], centres, stride, self.rule
            )

        return jax.vmap(one)(truth, labels, box_mask, predicted, raw)


def _integer_boxes(boxes: Float[Array, "*S 4"]) -> Float[Array, "*S 4"]:
    """Integer boxes carried through integer centres.

    Parity: released HMNet stores centres truncated towards zero, which moves boxes whose centre is negative.
    """
    low, size = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    low = jnp.trunc(low + size / 2) - jnp.trunc(size / 2)
    return jnp.concatenate([low, low + size], -1)
