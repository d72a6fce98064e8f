"""A level of the decoupled head in four calls, for devices on which calls cost more than arithmetic."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from jaxdet.models.heads import HeadLevel
from jaxdet.nn import prepared
from jaxdet.nn.block import ConvBlock
from jaxdet.nn.conv import Conv


class MergedLevel(nnx.Module):
    """The outputs of a `HeadLevel` whose norms are folded and whose first convolutions are one (`both`).

    The later convolutions of the two branches are one of two groups, and the three predictions are one, with
    zeros where a branch has no part in an output.
    """

    def __init__(self, level: HeadLevel):
        assert level.both is not None
        self.stem, self.both = level.stem, level.both
        pairs = zip(level.cls_conv, level.reg_conv, strict=True)
        blocks = [
            _side_by_side(cls, reg)
            for cls, reg in pairs
            if isinstance(cls, ConvBlock) and isinstance(reg, ConvBlock)
        ]
        self.pairs = nnx.List(blocks)
        self.pred = _one_prediction(level)

    def __call__(self, x: Array, train: bool = False, mask: Array | None = None):
        if self.stem is not None:
            x = self.stem(x)
        x = self.both(x)
        for block in self.pairs:
            x = block(x)
        return self.pred(x)


def _side_by_side(cls: ConvBlock, reg: ConvBlock) -> ConvBlock:
    block = nnx.clone(cls)
    block.conv = prepared.joined(cls.conv, reg.conv)
    block.conv.groups = 2
    return block


def _one_prediction(level: HeadLevel) -> Conv:
    """Box, object, classes from the features of classes and boxes, in this order as `both` gives them."""
    of_boxes = prepared.joined(level.reg_pred, level.obj_pred).kernel[...]
    of_classes = level.cls_pred.kernel[...]
    kernel = jnp.concatenate(
        [
            jnp.concatenate([jnp.zeros((*of_classes.shape[:3], 5), of_classes.dtype), of_classes], -1),
            jnp.concatenate([of_boxes, jnp.zeros_like(of_classes)], -1),
        ],
        2,
    )
    conv = prepared.joined(level.reg_pred, level.obj_pred, level.cls_pred)
    conv.kernel = nnx.Param(kernel)
    return conv
