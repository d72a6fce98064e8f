"""The head of YOLOv4: objectness, class scores and box size against a few anchors a cell."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxdet.nn.conv import Conv, torch_uniform
from jaxdet.ops import boxes as box_ops
from jaxdet.ops.select import Candidates


class AnchorHead(nnx.Module):
    """One 1x1 convolution a level.

    `anchors` [levels][anchors][2] are widths and heights in pixels; `strides` the pixels of a cell of each level.
    """

    def __init__(self, in_features, anchors, strides, num_classes: int, *, rngs: nnx.Rngs):
        self.anchors = tuple(tuple((float(w), float(h)) for w, h in level) for level in anchors)
        self.strides, self.num_classes = tuple(strides), num_classes
        self.preds = nnx.List(
            [self._pred(c, len(level), s, rngs) for c, level, s in zip(in_features, self.anchors, strides)]
        )

    def _pred(self, channels, num_anchors, stride, rngs):
        outputs = num_anchors * (5 + self.num_classes)
        conv = Conv(channels, outputs, 1, use_bias=True, rngs=rngs, kernel_init=torch_uniform)
        noise = torch_uniform(rngs.params(), (channels, outputs), jnp.float32)[0]
        # About 8 objects in an image of 640 pixels, and each class as probable as the other.
        prior = [0.0] * 4 + [math.log(8 / (640 / stride) ** 2)]
        prior += [math.log(0.6 / (self.num_classes - 0.99))] * self.num_classes
        conv.bias = nnx.data(nnx.Param(noise + jnp.asarray(prior * num_anchors)))
        return conv

    def __call__(self, features, train: bool = False, mask=None) -> list[Float[Array, "B a _ _ P"]]:
        """Raw outputs of each level, at least float32: x, y, w, h, objectness and classes of P = 5 + classes."""
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

    def candidates(self, raw: list[Float[Array, "B a _ _ P"]], sizes) -> Candidates:
        """Boxes, objectness and class scores of all candidates; `sizes` follow from the outputs."""
        rows = self.decode(raw)
        return Candidates(box_ops.cxcywh_to_xyxy(rows[..., :4]), rows[..., 4], rows[..., 5:])
