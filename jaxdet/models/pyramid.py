"""The necks of HMNet: fusion of three readouts, or two more levels made from one, fused or not."""

from collections.abc import Sequence

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array

from jaxdet.nn.block import ConvBlock
from jaxdet.ops import resize

_NORM = {"activation": jax.nn.relu, "eps": 1e-5, "momentum": 0.1}


class FuseBlock(nnx.Module):
    """3x3 block over the sum of two levels of one size."""

    def __init__(self, features: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.out_conv = ConvBlock(features, features, 3, rngs=rngs, dtype=dtype, **_NORM)

    def __call__(self, x: Array, train: bool = False, mask: Array | None = None):
        return self.out_conv(x, train, mask)


class FusePath(nnx.Module):
    """Fusion blocks of one direction; block i joins levels i and i + 1."""

    def __init__(self, features: int, num_levels: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.fuse = nnx.List([FuseBlock(features, rngs=rngs, dtype=dtype) for _ in range(num_levels - 1)])


class Pyramid(nnx.Module):
    """Bottom-up, then top-down fusion of levels [S, h, w, C] to levels of the same shapes.

    A level has half the height and width, rounded up, of the one before.
    """

    def __init__(self, features: int, num_levels: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.pyramid_fuse = nnx.List(
            [FusePath(features, num_levels, rngs=rngs, dtype=dtype) for _ in range(2)]
        )

    def __call__(self, levels: Sequence, train: bool = False, mask: Array | None = None) -> list:
        levels = list(levels)
        up, down = self.pyramid_fuse
        for i, block in enumerate(up.fuse):
            lower = resize.bilinear(levels[i], levels[i + 1].shape[1:3])
            levels[i + 1] = block(levels[i + 1] + lower, train, mask)
        return _fused_down(down, levels, train, mask)


def _fused_down(path: FusePath, levels: list, train: bool, mask: Array | None) -> list:
    """Each level joined with the coarser one above it, the coarsest first."""
    for i, block in reversed(list(enumerate(path.fuse))):
        upper = resize.bilinear(levels[i + 1], levels[i].shape[1:3])
        levels[i] = block(levels[i] + upper, train, mask)
    return levels


class StridedLevels(nnx.Module):
    """One level in; that level and `num_extra` more out, each half the size of the one before."""

    def __init__(self, features: int, num_extra: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.extra_convs = nnx.List(
            [ConvBlock(features, features, 3, 2, rngs=rngs, dtype=dtype, **_NORM) for _ in range(num_extra)]
        )

    def __call__(self, levels: Sequence, train: bool = False, mask: Array | None = None) -> list:
        levels = list(levels)
        for block in self.extra_convs:
            levels.append(block(levels[-1], train, mask))
        return levels


class TopDownLevels(nnx.Module):
    """`StridedLevels`, then top-down fusion, so that the finest level sees what the coarser ones see.

    A feature pyramid (Lin et al., CVPR 2017) on one memory, which the released single-memory models lack.
    """

    def __init__(self, features: int, num_extra: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.levels = StridedLevels(features, num_extra, rngs=rngs, dtype=dtype)
        self.down = FusePath(features, num_extra + 1, rngs=rngs, dtype=dtype)

    def __call__(self, levels: Sequence, train: bool = False, mask: Array | None = None) -> list:
        return _fused_down(self.down, self.levels(levels, train, mask), train, mask)
