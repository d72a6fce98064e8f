"""Cross-stage-partial blocks of Scaled-YOLOv4 (Wang et al. 2021, arXiv 2011.08036).

Every block is called as `block(x, train, mask)` on [B, H, W, C]. Attribute names are those of the released
state dicts; a `cv` that is a plain `Conv` has neither norm nor activation.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Shaped

from jaxdet.nn.block import ConvBlock
from jaxdet.nn.conv import Conv, torch_uniform
from jaxdet.nn.norm import BatchNorm


def mish(x: Shaped[Array, "*S"]) -> Shaped[Array, "*S"]:
    """x * tanh(softplus(x)), with one exponential: tanh(log(1 + e)) = n / (n + 2) with n = e (e + 2).

    Beyond 20 the quotient is 1 in float64 too. Half types are computed in float32, as released.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    e = jnp.exp(jnp.minimum(wide, 20))
    n = e * (e + 2)
    return (wide * (n / (n + 2))).astype(x.dtype)


MishBlock = partial(ConvBlock, activation=mish, kernel_init=torch_uniform)
PlainConv = partial(Conv, kernel_size=1, kernel_init=torch_uniform)


def max_pool(x: Shaped[Array, "B H W C"], size: int) -> Shaped[Array, "B H W C"]:
    """Maximum over size x size windows, stride 1; the border counts as minus infinity.

    On CPU rows and columns come one after the other, ten times as fast. Columns first: so the gradient of
    equal values goes to the first of them in the order of rows, as that of square windows does.
    """
    # A constant: only then is it known as a maximum, which has a gradient.
    lowest = np.asarray(-np.inf, x.dtype)

    def over(x: Array, height: int, width: int) -> Array:
        return lax.reduce_window(x, lowest, lax.max, (1, height, width, 1), (1, 1, 1, 1), "SAME")

    return lax.platform_dependent(
        x, cpu=lambda x: over(over(x, 1, size), size, 1), default=lambda x: over(x, size, size)
    )


def spatial_pyramid(x: Shaped[Array, "B H W C"]) -> Shaped[Array, "B H W C4"]:
    """[x, max over 5x5, 9x9, 13x13]: the wider windows are the 5x5 one repeated."""
    p5 = max_pool(x, 5)
    p9 = max_pool(p5, 5)
    return jnp.concatenate([x, p5, p9, max_pool(p9, 5)], -1)


def upsample(x: Shaped[Array, "B H W C"]) -> Shaped[Array, "B H2 W2 C"]:
    """Nearest neighbour, twice as wide and high."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c))
    return x.reshape(b, 2 * h, 2 * w, c)


class Bottleneck(nnx.Module):
    """1x1 to `expansion` of the channels, 3x3 back; with `shortcut` the input is added."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        shortcut: bool = True,
        expansion: float = 0.5,
        *,
        rngs: nnx.Rngs,
    ):
        hidden = int(out_features * expansion)
        self.cv1 = MishBlock(in_features, hidden, 1, rngs=rngs)
        self.cv2 = MishBlock(hidden, out_features, 3, rngs=rngs)
        self.shortcut = shortcut and in_features == out_features

    def __call__(
        self, x: Shaped[Array, "B H W C"], train: bool = False, mask: Bool[Array, "B"] | None = None
    ) -> Shaped[Array, "B H W Co"]:
        y = self.cv2(self.cv1(x, train, mask), train, mask)
        return x + y if self.shortcut else y


class BottleneckCSP(nnx.Module):
    """Half of the channels through `depth` residual bottlenecks, half past them."""

    def __init__(self, in_features: int, out_features: int, depth: int, *, rngs: nnx.Rngs):
        hidden = out_features // 2
        self.cv1 = MishBlock(in_features, hidden, 1, rngs=rngs)
        self.cv2 = PlainConv(in_features, hidden, rngs=rngs)
        self.cv3 = PlainConv(hidden, hidden, rngs=rngs)
        self.cv4 = MishBlock(2 * hidden, out_features, 1, rngs=rngs)
        self.norm = BatchNorm(2 * hidden, 1e-3, 0.03)
        self.m = nnx.List([Bottleneck(hidden, hidden, expansion=1.0, rngs=rngs) for _ in range(depth)])

    def __call__(
        self, x: Shaped[Array, "B H W C"], train: bool = False, mask: Bool[Array, "B"] | None = None
    ) -> Shaped[Array, "B H W Co"]:
        a = self.cv1(x, train, mask)
        for block in self.m:
            a = block(a, train, mask)
        y = jnp.concatenate([self.cv3(a), self.cv2(x)], -1)
        return self.cv4(mish(self.norm(y, train, mask)), train, mask)


class BottleneckCSP2(nnx.Module):
    """`depth` bottlenecks without residual beside a 1x1 convolution, all at full width."""

    def __init__(self, in_features: int, out_features: int, depth: int, *, rngs: nnx.Rngs):
        self.cv1 = MishBlock(in_features, out_features, 1, rngs=rngs)
        self.cv2 = PlainConv(out_features, out_features, rngs=rngs)
        self.cv3 = MishBlock(2 * out_features, out_features, 1, rngs=rngs)
        self.norm = BatchNorm(2 * out_features, 1e-3, 0.03)
        self.m = nnx.List(
            [Bottleneck(out_features, out_features, False, 1.0, rngs=rngs) for _ in range(depth)]
        )

    def __call__(
        self, x: Shaped[Array, "B H W C"], train: bool = False, mask: Bool[Array, "B"] | None = None
    ) -> Shaped[Array, "B H W Co"]:
        x = self.cv1(x, train, mask)
        a = x
        for block in self.m:
            a = block(a, train, mask)
        y = jnp.concatenate([a, self.cv2(x)], -1)
        return self.cv3(mish(self.norm(y, train, mask)), train, mask)


class SPPCSP(nnx.Module):
    """Spatial pyramid pooling on one of two paths."""

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs):
        c = out_features
        self.cv1 = MishBlock(in_features, c, 1, rngs=rngs)
        self.cv2 = PlainConv(in_features, c, rngs=rngs)
        self.cv3 = MishBlock(c, c, 3, rngs=rngs)
        self.cv4 = MishBlock(c, c, 1, rngs=rngs)
        self.cv5 = MishBlock(4 * c, c, 1, rngs=rngs)
        self.cv6 = MishBlock(c, c, 3, rngs=rngs)
        self.cv7 = MishBlock(2 * c, c, 1, rngs=rngs)
        self.norm = BatchNorm(2 * c, 1e-3, 0.03)

    def __call__(
        self, x: Shaped[Array, "B H W C"], train: bool = False, mask: Bool[Array, "B"] | None = None
    ) -> Shaped[Array, "B H W Co"]:
        a = self.cv4(self.cv3(self.cv1(x, train, mask), train, mask), train, mask)
        a = self.cv6(self.cv5(spatial_pyramid(a), train, mask), train, mask)
        y = jnp.concatenate([a, self.cv2(x)], -1)
        return self.cv7(mish(self.norm(y, train, mask)), train, mask)
