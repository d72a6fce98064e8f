"""Scaled-YOLOv4: CSP, P5, P6 and P7 as one graph of as many stages and levels as its tables are long.

The backbone halves the image once a stage. Its last stages, one for each level of the neck and the head, are
joined from the coarsest to the finest and back (path aggregation). See Wang et al. 2021, arXiv 2011.08036.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Shaped

from jaxdet.models.anchor_head import AnchorHead
from jaxdet.models.detector import Detector
from jaxdet.models.images import ImageBackbone
from jaxdet.nn.csp import SPPCSP, Bottleneck, BottleneckCSP, BottleneckCSP2, MishBlock, upsample
from jaxdet.nn.norm import BatchNorm
from jaxdet.ops.select import MultiLabel


def scale_channels(channels: int, width: float) -> int:
    """Channels of a block at a width multiple: the next multiple of 8."""
    return math.ceil(channels * width / 8) * 8


def scale_depth(depth: int, multiple: float) -> int:
    """Bottlenecks of a block at a depth multiple; at least one, and zero and one stay."""
    return max(round(depth * multiple), 1) if depth > 1 else depth


class Stage(nnx.Module):
    """Half the resolution, then a CSP block of `depth` bottlenecks; depth 0 is one plain bottleneck."""

    def __init__(self, in_features: int, out_features: int, depth: int, *, rngs: nnx.Rngs):
        self.down = MishBlock(in_features, out_features, 3, 2, rngs=rngs)
        if depth == 0:
            self.block = Bottleneck(out_features, out_features, rngs=rngs)
        else:
            self.block = BottleneckCSP(out_features, out_features, depth, rngs=rngs)

    def __call__(self, x: Array, train: bool = False, mask: Array | None = None):
        return self.block(self.down(x, train, mask), train, mask)


class YOLOv4Backbone(ImageBackbone):
    """Images to the features of the last `num_levels` stages, finest first.

    `stem` is the number of channels of a convolution at full resolution (0: none) and `stages` has a row
    (channels, depth) for each stage. Pixels are RGB, 0..255.
    """

    def __init__(
        self,
        stem: int,
        stages: Sequence[tuple[int, int]],
        num_levels: int,
        dtype: DTypeLike | None = None,
        *,
        rngs: nnx.Rngs,
    ):
        self.stem = MishBlock(3, stem, 3, rngs=rngs) if stem else None
        before = [stem or 3, *(channels for channels, _ in stages)]
        self.stages = nnx.List(
            [Stage(c_in, c, depth, rngs=rngs) for c_in, (c, depth) in zip(before, stages, strict=False)]
        )
        self.num_levels, self.dtype = num_levels, dtype

    def features(
        self, pixels: Shaped[Array, "B H W 3"], train: bool = False, mask: Array | None = None
    ) -> list[Array]:
        """Features of every level [B, H / stride, W / stride, C]."""
        x = self.typed(pixels) / 255
        if self.stem is not None:
            x = self.stem(x, train, mask)
        outputs = []
        for stage in self.stages:
            x = stage(x, train, mask)
            outputs.append(x)
        return outputs[-self.num_levels :]


class _TopDown(nnx.Module):
    """A coarse level joins the next finer one: [route(fine), upsampled reduce(coarse)] merged."""

    def __init__(self, coarse: int, fine: int, channels: int, depth: int, *, rngs: nnx.Rngs):
        self.reduce = MishBlock(coarse, channels, 1, rngs=rngs)
        self.route = MishBlock(fine, channels, 1, rngs=rngs)
        self.merge = BottleneckCSP2(2 * channels, channels, depth, rngs=rngs)

    def __call__(self, coarse: Array, fine: Array, train: bool = False, mask: Array | None = None):
        up = upsample(self.reduce(coarse, train, mask))
        joined = jnp.concatenate([self.route(fine, train, mask), up], -1)
        return self.merge(joined, train, mask)


class _BottomUp(nnx.Module):
    """A fine level joins the next coarser one: [down(fine), coarse] merged."""

    def __init__(self, fine: int, coarse: int, depth: int, *, rngs: nnx.Rngs):
        self.down = MishBlock(fine, coarse, 3, 2, rngs=rngs)
        self.merge = BottleneckCSP2(2 * coarse, coarse, depth, rngs=rngs)

    def __call__(self, fine: Array, coarse: Array, train: bool = False, mask: Array | None = None):
        joined = jnp.concatenate([self.down(fine, train, mask), coarse], -1)
        return self.merge(joined, train, mask)


class PathAggregation(nnx.Module):
    """The neck: features of the backbone, finest first, to as many of the same channels and strides.

    `in_features` are the backbone's channels of each level, `channels` the neck's own; `depths` the
    bottlenecks of a merge on the way down and on the way up.
    """

    def __init__(
        self, in_features: Sequence[int], channels: Sequence[int], depths: tuple[int, int], *, rngs: nnx.Rngs
    ):
        levels = range(len(channels))
        self.spp = SPPCSP(in_features[-1], channels[-1], rngs=rngs)
        self.top_down = nnx.List(
            [
                _TopDown(channels[i + 1], in_features[i], channels[i], depths[0], rngs=rngs)
                for i in levels[:-1]
            ]
        )
        self.bottom_up = nnx.List(
            [_BottomUp(channels[i], channels[i + 1], depths[1], rngs=rngs) for i in levels[:-1]]
        )
        self.out = nnx.List([MishBlock(channels[i], in_features[i], 3, rngs=rngs) for i in levels])

    def __call__(self, features: Sequence[Array], train: bool = False, mask: Array | None = None):
        x = self.spp(features[-1], train, mask)
        coarse = [x]
        for step, fine in zip(reversed(self.top_down), reversed(features[:-1]), strict=True):
            x = step(x, fine, train, mask)
            coarse.append(x)
        levels = [coarse.pop()]
        for step in self.bottom_up:
            levels.append(step(levels[-1], coarse.pop(), train, mask))
        return [out(level, train, mask) for out, level in zip(self.out, levels, strict=True)]


def yolov4(
    num_classes: int,
    stem: int,
    stages: Sequence[Sequence[int]],
    neck: Sequence[int],
    anchors: Sequence[Sequence[Sequence[float | int]]],
    neck_depths: Sequence[int] = (3, 3),
    width: float = 1.0,
    depth: float = 1.0,
    min_score: float = 0.1,
    nms_iou: float = 0.5,
    *,
    rngs: nnx.Rngs,
    dtype: DTypeLike | None = None,
) -> Detector:
    """YOLOv4 from its tables: channels of `stem`, (channels, depth) of `stages`, channels of `neck`'s levels.

    `width` and `depth` multiply all of them. `anchors` [levels][anchors][2] are widths and heights in pixels.
    """
    rows = [(scale_channels(c, width), scale_depth(n, depth)) for c, n in stages]
    channels = [scale_channels(c, width) for c in neck]
    down, up = (scale_depth(n, depth) for n in neck_depths)
    levels = len(channels)
    features = [c for c, _ in rows[-levels:]]
    strides = [2 << i for i in range(len(rows))][-levels:]
    detector = Detector(
        YOLOv4Backbone(scale_channels(stem, width), rows, levels, dtype, rngs=rngs),
        PathAggregation(features, channels, (down, up), rngs=rngs),
        AnchorHead(features, anchors, strides, num_classes, rngs=rngs),
        rule=MultiLabel(min_score, nms_iou),
    )
    mark_as_measured(detector)
    return detector


def mark_as_measured(module: nnx.Module) -> None:
    """Statistics of a fresh model: one batch of zeros was seen with momentum 0.1.

    Parity: the released code measures its strides by a training forward before the first step.
    """
    for _, norm in nnx.iter_modules(module):
        if isinstance(norm, BatchNorm):
            norm.var.set_value(jnp.full_like(norm.var[...], 0.9))
            norm.num_batches_tracked.set_value(jnp.ones((), jnp.int32))
