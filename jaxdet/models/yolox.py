"""YOLOX: CSPDarknet and PAFPN in six sizes (Ge et al. 2021, arXiv 2107.08430).

Attribute names are those of the released state dicts. All norms have eps 1e-3 and momentum 0.03.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Shaped

from jaxdet.models.detector import Detector
from jaxdet.models.heads import DecoupledHead
from jaxdet.models.images import ImageBackbone
from jaxdet.nn.block import ConvBlock, DepthwiseBlock
from jaxdet.nn.conv import torch_uniform
from jaxdet.nn.csp import spatial_pyramid, upsample
from jaxdet.ops.select import BestClass

_Block = partial(ConvBlock, kernel_init=torch_uniform)
_Separable = partial(DepthwiseBlock, kernel_init=torch_uniform)


def _spatial(depthwise: bool):
    """The block that stands for a 3x3 convolution."""
    return _Separable if depthwise else _Block


class Focus(nnx.Module):
    """Every 2x2 pixels become one with four times the channels, then a 3x3 convolution."""

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs):
        self.conv = _Block(4 * in_features, out_features, 3, rngs=rngs)

    def __call__(self, x: Array, train: bool = False, mask: Array | None = None):
        # (row, column) parity: both even, odd row, odd column, both odd.
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.conv(jnp.concatenate(parts, -1), train, mask)


class ResidualUnit(nnx.Module):
    """1x1 and 3x3 at constant width; with `shortcut` the input is added."""

    def __init__(self, features: int, shortcut: bool, depthwise: bool, *, rngs: nnx.Rngs):
        self.conv1 = _Block(features, features, 1, rngs=rngs)
        self.conv2 = _spatial(depthwise)(features, features, 3, rngs=rngs)
        self.shortcut = shortcut

    def __call__(self, x: Array, train: bool = False, mask: Array | None = None):
        y = self.conv2(self.conv1(x, train, mask), train, mask)
        return x + y if self.shortcut else y


class CSPLayer(nnx.Module):
    """Half of the channels through `depth` bottlenecks, half past them, every convolution with norm."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        depth: int,
        depthwise: bool,
        shortcut: bool = False,
        *,
        rngs: nnx.Rngs,
    ):
        hidden = out_features // 2
        self.conv1 = _Block(in_features, hidden, 1, rngs=rngs)
        self.conv2 = _Block(in_features, hidden, 1, rngs=rngs)
        self.conv3 = _Block(2 * hidden, out_features, 1, rngs=rngs)
        self.m = nnx.List([ResidualUnit(hidden, shortcut, depthwise, rngs=rngs) for _ in range(depth)])

    def __call__(self, x: Array, train: bool = False, mask: Array | None = None):
        a = self.conv1(x, train, mask)
        for block in self.m:
            a = block(a, train, mask)
        joined = jnp.concatenate([a, self.conv2(x, train, mask)], -1)
        return self.conv3(joined, train, mask)


class SPP(nnx.Module):
    """Spatial pyramid pooling between two 1x1 convolutions."""

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs):
        self.conv1 = _Block(in_features, in_features // 2, 1, rngs=rngs)
        self.conv2 = _Block(2 * in_features, out_features, 1, rngs=rngs)

    def __call__(self, x: Array, train: bool = False, mask: Array | None = None):
        return self.conv2(spatial_pyramid(self.conv1(x, train, mask)), train, mask)


class YOLOXBackbone(ImageBackbone):
    """CSPDarknet: images to features at strides 8, 16 and 32. Pixels are BGR, 0..255."""

    def __init__(
        self, width: float, depth: float, depthwise: bool, dtype: DTypeLike | None = None, *, rngs: nnx.Rngs
    ):
        base, n = int(64 * width), max(round(3 * depth), 1)
        down = _spatial(depthwise)

        def stage(channels: int, blocks: int):
            csp = CSPLayer(2 * channels, 2 * channels, blocks, depthwise, shortcut=True, rngs=rngs)
            return nnx.List([down(channels, 2 * channels, 3, 2, rngs=rngs), csp])

        self.stem = Focus(3, base, rngs=rngs)
        self.dark2 = stage(base, n)
        self.dark3 = stage(2 * base, 3 * n)
        self.dark4 = stage(4 * base, 3 * n)
        last = 16 * base
        self.dark5 = nnx.List(
            [
                down(8 * base, last, 3, 2, rngs=rngs),
                SPP(last, last, rngs=rngs),
                CSPLayer(last, last, n, depthwise, rngs=rngs),
            ]
        )
        self.dtype = dtype

    def features(
        self, pixels: Shaped[Array, "B H W 3"], train: bool = False, mask: Array | None = None
    ) -> list[Array]:
        """Features at strides 8, 16 and 32, [B, H / stride, W / stride, C]."""
        x = self.stem(self.typed(pixels), train, mask)
        outputs = []
        for stage in (self.dark2, self.dark3, self.dark4, self.dark5):
            for module in stage:
                x = module(x, train, mask)
            outputs.append(x)
        return outputs[1:]


class PAFPN(nnx.Module):
    """The neck: path aggregation, coarse to fine and back; keeps channels and strides."""

    def __init__(self, width: float, depth: float, depthwise: bool, *, rngs: nnx.Rngs):
        c3, c4, c5 = (int(c * width) for c in (256, 512, 1024))
        n = round(3 * depth)
        down = _spatial(depthwise)
        self.lateral_conv0 = _Block(c5, c4, 1, rngs=rngs)
        self.C3_p4 = CSPLayer(2 * c4, c4, n, depthwise, rngs=rngs)
        self.reduce_conv1 = _Block(c4, c3, 1, rngs=rngs)
        self.C3_p3 = CSPLayer(2 * c3, c3, n, depthwise, rngs=rngs)
        self.bu_conv2 = down(c3, c3, 3, 2, rngs=rngs)
        self.C3_n3 = CSPLayer(2 * c3, c4, n, depthwise, rngs=rngs)
        self.bu_conv1 = down(c4, c4, 3, 2, rngs=rngs)
        self.C3_n4 = CSPLayer(2 * c4, c5, n, depthwise, rngs=rngs)

    def __call__(self, features: Sequence[Array], train: bool = False, mask: Array | None = None):
        f3, f4, f5 = features

        def join(module: Callable[..., Array], a: Array, b: Array):
            return module(jnp.concatenate([a, b], -1), train, mask)

        lateral = self.lateral_conv0(f5, train, mask)
        p4 = join(self.C3_p4, upsample(lateral), f4)
        reduced = self.reduce_conv1(p4, train, mask)
        p3 = join(self.C3_p3, upsample(reduced), f3)
        n3 = join(self.C3_n3, self.bu_conv2(p3, train, mask), reduced)
        n4 = join(self.C3_n4, self.bu_conv1(n3, train, mask), lateral)
        return [p3, n3, n4]


def yolox(
    num_classes: int,
    width: float,
    depth: float,
    depthwise: bool = False,
    min_score: float = 0.01,
    nms_iou: float = 0.65,
    *,
    rngs: nnx.Rngs,
    dtype: DTypeLike | None = None,
) -> Detector:
    """YOLOX of a width and depth multiple; `depthwise` makes every 3x3 convolution but the stem separable."""
    features = [int(c * width) for c in (256, 512, 1024)]
    return Detector(
        YOLOXBackbone(width, depth, depthwise, dtype, rngs=rngs),
        PAFPN(width, depth, depthwise, rngs=rngs),
        DecoupledHead(features, num_classes, int(256 * width), (8, 16, 32), depthwise=depthwise, rngs=rngs),
        rule=BestClass(min_score, nms_iou),
    )
