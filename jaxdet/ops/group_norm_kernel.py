"""Group norm with what follows it as one or two GPU kernels.

XLA makes six kernels of the two passes of a group norm over a large grid, and one more to apply it; on a GPU
their launches cost more than their work. Here a block of threads holds a group of channels of an image, or a
tile of its positions, takes both passes over what it holds, and adds, activates and rounds at the end. Means
and squares of tiles are joined by the rule of Chan, Golub and LeVeque 1983, so that nothing cancels.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

_PARTS = 5  # arrays in which a block of threads holds its positions
_PART_ELEMENTS = 8192  # of an array: 16 for each of 512 threads
TYPES = (jnp.float32, jnp.bfloat16, jnp.float16)  # of arrays that the kernels of this package take


def takes(x: Shaped[Array, "B H W C"], group_size: int) -> bool:
    """Fitness of the kernels for `x` and groups of `group_size` channels, which must be a power of two."""
    return x.dtype in TYPES and group_size & (group_size - 1) == 0 and group_size <= 128


def plain_group_norm(
    x: Shaped[Array, "B H W C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    group_size: int,
    eps: float,
) -> Shaped[Array, "B H W C"]:
    """The norm as XLA's operations, in at least float32, the result in the type of `x`."""
    b, h, w, c = x.shape
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32)).reshape(b, h * w, c // group_size, group_size)
    mean = wide.mean((1, 3), keepdims=True)
    centred = wide - mean
    var = (centred * centred).mean((1, 3), keepdims=True)
    y = (centred * lax.rsqrt(var + eps)).reshape(x.shape)
    return (y * scale.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)).astype(x.dtype)


def group_norm(
    x: Shaped[Array, "B H W C"],
    scale: Float[Array, "C"],
    bias: Float[Array, "C"],
    group_size: int,
    eps: float,
    plus: Shaped[Array, "B H W C"] | None = None,
    silu: bool = False,
    dtype: DTypeLike | None = None,
    interpret: bool = False,
) -> Shaped[Array, "B H W C"]:
    """`silu(plus + norm(x) * scale + bias)`, computed in float32 and rounded once, to `dtype` or that of `x`.

    `interpret` runs the kernels on any device, slowly, for tests.
    """
    options = NormOptions(group_size, eps, silu, dtype, interpret)
    return forward(x, scale, bias, plus, options)[0]


class NormOptions(NamedTuple):
    """Arguments of `group_norm` that are not arrays."""

    group_size: int
    eps: float
    silu: bool
    dtype: DTypeLike | None
    interpret: bool


def forward(
    x: Shaped[Array, "B H W C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    plus: Shaped[Array, "B H W C"] | None,
    options: NormOptions,
) -> tuple[Shaped[Array, "B H W C"], tuple[Array, ...]]:
    """`group_norm`, and means and sums of squares [B, G, T] of the tiles, where a group takes several."""
    tiling = Tiling.of(x, options.group_size)
    call = tiling.kernels(x.shape[0], options.interpret)
    flat = x.reshape(x.shape[0], tiling.positions, x.shape[-1])
    statistics = ()
    if not tiling.at_once:
        shape = jax.ShapeDtypeStruct((x.shape[0], tiling.groups, tiling.padded_tiles), jnp.float32)
        statistics = tuple(
            call(partial(_measure, tiling), out_shape=(shape, shape), name="group_statistics")(flat)
        )
    rest = () if plus is None else (plus.reshape(flat.shape),)
    out = jax.ShapeDtypeStruct(flat.shape, options.dtype or x.dtype)
    apply = partial(_apply, tiling, options, len(rest))
    found = call(apply, out_shape=out, name="group_norm")(flat, scale, bias, *statistics, *rest)
    return found.reshape(x.shape), statistics


def _rows(wanted: int, group_size: int) -> int:
    """Positions of an array of a block: a power of two, so many that each thread of a warp has an element."""
    return max(1 << (wanted - 1).bit_length(), 32 // min(group_size, 32))


class Tiling(NamedTuple):
    """Places of a block of threads in the flat image [B, P, C].

    They are `num_parts` times `rows` positions of a group. `tiles` blocks share a group; where that is one,
    it holds all positions.
    """

    positions: int
    groups: int
    group_size: int
    rows: int
    num_parts: int
    tiles: int

    @classmethod
    def of(cls, x: Shaped[Array, "B H W C"], group_size: int) -> "Tiling":
        """The tiling of the norm of `x`."""
        _, height, width, channels = x.shape
        positions = height * width
        at_once = positions * group_size <= _PARTS * _PART_ELEMENTS
        rows = _rows(-(-positions // _PARTS) if at_once else _PART_ELEMENTS // group_size, group_size)
        blocks = -(-positions // rows)
        num_parts, tiles = (blocks, 1) if at_once else (1, blocks)
        return cls(positions, channels // group_size, group_size, rows, num_parts, tiles)

    @property
    def padded_tiles(self) -> int:
        """`tiles` rounded up to a power of two, which threads need."""
        return 1 << (self.tiles - 1).bit_length()

    @property
    def at_once(self) -> bool:
        """True where one block of threads holds a group of an image."""
        return self.tiles == 1

    def grid(self, images: int) -> tuple[int, int, int]:
        """Blocks of threads."""
        return images, self.groups, self.tiles

    def kernels(self, images: int, interpret: bool) -> Callable[..., Any]:
        """`pallas_call` of kernels over the grid."""
        # Not at the top: only GPUs need it, and it takes half a second to import.
        from jax.experimental import pallas as pl
        from jax.experimental.pallas import triton

        warps = min(16, max(1, self.rows * self.group_size // 256))
        return partial(
            pl.pallas_call,
            grid=self.grid(images),
            compiler_params=None if interpret else triton.CompilerParams(num_warps=warps, num_stages=1),
            interpret=interpret,
        )

    def part(self, here: tuple[Array, Array, Array], number: int | Array):
        """Index and mask of an array that the block `here` holds."""
        image, group, tile = here
        row = (tile * self.num_parts + number) * self.rows + lax.iota(jnp.int32, self.rows)
        mask = jnp.broadcast_to((row < self.positions)[:, None], (self.rows, self.group_size))
        return (image, row[:, None], self.columns(group)[None, :]), mask

    def columns(self, group: Array):
        """Channels of a group."""
        return group * self.group_size + lax.iota(jnp.int32, self.group_size)


def block() -> tuple[Array, Array, Array]:
    """Image, group and tile of this block of threads; to be asked outside loops."""
    from jax.experimental import pallas as pl

    image, group, tile = (pl.program_id(axis) for axis in range(3))
    return image, group, tile


def load(ref: Any, index: Any, mask: Array):
    from jax.experimental.pallas import triton

    return triton.load(ref.at[index], mask=mask, other=0.0).astype(jnp.float32)


def _moments(parts: Sequence[tuple[Array, Array]]):
    """Mean and sum of squares about it of the arrays (values, mask), and their count."""
    count = sum(jnp.sum(mask.astype(jnp.float32)) for _, mask in parts)
    mean = sum(jnp.sum(values) for values, _ in parts) / count
    return mean, sum(jnp.sum(jnp.where(mask, (v - mean) * (v - mean), 0.0)) for v, mask in parts), count


def _measure(tiling: Tiling, x: Any, means: Any, squares: Any):
    here = block()
    index, mask = tiling.part(here, 0)
    mean, square, _ = _moments([(load(x, index, mask), mask)])
    means[here], squares[here] = mean, square


def _apply(tiling: Tiling, options: NormOptions, num_plus: int, x: Any, scale: Any, bias: Any, *rest):
    from jax.experimental.pallas import triton

    *inputs, out = rest
    here = image, group, _ = block()
    places = [tiling.part(here, number) for number in range(tiling.num_parts)]
    held = [(load(x, index, mask), mask) for index, mask in places]
    if not tiling.at_once:
        mean, square, count = joined(tiling, inputs[0], inputs[1], (image, group))
    else:
        mean, square, count = _moments(held)
    inverse = lax.rsqrt(square / count + options.eps)
    columns = tiling.columns(group)
    factor, shift = (a[columns].astype(jnp.float32)[None, :] for a in (scale, bias))
    for (index, mask), (values, _) in zip(places, held, strict=True):
        y = (values - mean) * inverse * factor + shift
        if num_plus:
            y = y + load(inputs[-1], index, mask)
        if options.silu:
            y = y * jax.nn.sigmoid(y)
        triton.store(out.at[index], y.astype(out.dtype), mask=mask)


def joined(tiling: Tiling, means: Any, squares: Any, place: tuple[Array, Array]):
    """Mean, sum of squares and count of a group from those of its tiles."""
    tile = lax.iota(jnp.int32, tiling.padded_tiles)
    rows = jnp.clip(tiling.positions - tile * tiling.rows, 0, tiling.rows)
    counts = (rows * tiling.group_size).astype(jnp.float32)
    mean_of, square_of = (load(a, (*place, tile), rows > 0) for a in (means, squares))
    count = jnp.sum(counts)
    mean = jnp.sum(counts * mean_of) / count
    return mean, jnp.sum(square_of + counts * (mean_of - mean) * (mean_of - mean)), count
