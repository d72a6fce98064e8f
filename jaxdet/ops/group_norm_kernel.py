"""Group norm with what follows it as one or two GPU kernels.

XLA makes six kernels of the two passes of a group norm over a large grid, and one more to apply it; on a GPU
their launches cost more than their work. Here a block of threads holds a group of channels of an image, or a
tile of its positions, takes both passes over what it holds, and adds, activates and rounds at the end. Means
and squares of tiles are joined by the rule of Chan, Golub and LeVeque 1983, so that nothing cancels.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

_PARTS = 5  # arrays in which a block of threads holds its positions
_PART_ELEMENTS = 8192  # of an array: 16 for each of 512 threads
_TYPES = (jnp.float32, jnp.bfloat16, jnp.float16)


def takes(x: Shaped[Array, "B H W C"], group_size: int) -> bool:
    """Fitness of the kernels for `x` and groups of `group_size` channels, which must be a power of two."""
    return x.dtype in _TYPES and group_size & (group_size - 1) == 0 and group_size <= 128


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
    # Not at the top: only GPUs need it, and it takes half a second to import.
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    images, height, width, channels = x.shape
    positions, groups = height * width, channels // group_size
    at_once = positions * group_size <= _PARTS * _PART_ELEMENTS
    rows = _rows(-(-positions // _PARTS) if at_once else _PART_ELEMENTS // group_size, group_size)
    tiles = 1 if at_once else -(-positions // rows)
    num_parts = -(-positions // rows) if at_once else 1
    tiling = _Tiling(positions, group_size, rows, num_parts, 1 << (tiles - 1).bit_length())
    warps = min(16, max(1, rows * group_size // 256))
    call = partial(
        pl.pallas_call,
        grid=(images, groups, tiles),
        compiler_params=None if interpret else triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=interpret,
    )
    flat = x.reshape(images, positions, channels)
    statistics = ()
    if not at_once:
        shape = jax.ShapeDtypeStruct((images, groups, tiling.tiles), jnp.float32)
        statistics = call(partial(_measure, tiling), out_shape=(shape, shape), name="group_statistics")(flat)
    rest = () if plus is None else (plus.reshape(flat.shape),)
    out = jax.ShapeDtypeStruct(flat.shape, dtype or x.dtype)
    apply = partial(_apply, tiling, eps, silu, len(statistics), len(rest))
    found = call(apply, out_shape=out, name="group_norm")(flat, scale, bias, *statistics, *rest)
    return found.reshape(x.shape)


def _rows(wanted: int, group_size: int) -> int:
    """Positions of an array of a block: a power of two, so many that each thread of a warp has an element."""
    return max(1 << (wanted - 1).bit_length(), 32 // min(group_size, 32))


class _Tiling:
    """Places of a block of threads in the flat image [B, P, C]."""

    def __init__(self, positions: int, group_size: int, rows: int, num_parts: int, tiles: int):
        self.positions, self.group_size, self.rows = positions, group_size, rows
        self.num_parts, self.tiles = num_parts, tiles

    def parts(self):
        """Index and mask of each array that the block holds."""
        from jax.experimental import pallas as pl

        image, group, tile = (pl.program_id(axis) for axis in range(3))
        columns = self.columns(group)[None, :]
        for part in range(self.num_parts):
            row = (tile * self.num_parts + part) * self.rows + lax.iota(jnp.int32, self.rows)
            mask = jnp.broadcast_to((row < self.positions)[:, None], (self.rows, self.group_size))
            yield (image, row[:, None], columns), mask

    def columns(self, group: Array):
        return group * self.group_size + lax.iota(jnp.int32, self.group_size)


def _load(ref: Any, index: Any, mask: Array):
    from jax.experimental.pallas import triton

    return triton.load(ref.at[index], mask=mask, other=0.0).astype(jnp.float32)


def _moments(parts: Sequence[tuple[Array, Array]]):
    """Mean and sum of squares about it of the arrays (values, mask), and their count."""
    count = sum(jnp.sum(mask.astype(jnp.float32)) for _, mask in parts)
    mean = sum(jnp.sum(values) for values, _ in parts) / count
    return mean, sum(jnp.sum(jnp.where(mask, (v - mean) * (v - mean), 0.0)) for v, mask in parts), count


def _measure(tiling: _Tiling, x: Any, means: Any, squares: Any):
    from jax.experimental import pallas as pl

    mean, square, _ = _moments([(_load(x, index, mask), mask) for index, mask in tiling.parts()])
    here = tuple(pl.program_id(axis) for axis in range(3))
    means[here], squares[here] = mean, square


def _apply(
    tiling: _Tiling,
    eps: float,
    silu: bool,
    num_statistics: int,
    num_plus: int,
    x: Any,
    scale: Any,
    bias: Any,
    *rest,
):
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    *inputs, out = rest
    places = list(tiling.parts())
    held = [(_load(x, index, mask), mask) for index, mask in places]
    image, group = pl.program_id(0), pl.program_id(1)
    if num_statistics:
        mean, square, count = _joined(tiling, inputs[0], inputs[1], (image, group))
    else:
        mean, square, count = _moments(held)
    inverse = lax.rsqrt(square / count + eps)
    columns = tiling.columns(group)
    factor, shift = (a[columns].astype(jnp.float32)[None, :] for a in (scale, bias))
    for (index, mask), (values, _) in zip(places, held, strict=True):
        y = (values - mean) * inverse * factor + shift
        if num_plus:
            y = y + _load(inputs[-1], index, mask)
        if silu:
            y = y * jax.nn.sigmoid(y)
        triton.store(out.at[index], y.astype(out.dtype), mask=mask)


def _joined(tiling: _Tiling, means: Any, squares: Any, place: tuple[Array, Array]):
    """Mean, sum of squares and count of a group from those of its tiles."""
    tile = lax.iota(jnp.int32, tiling.tiles)
    rows = jnp.clip(tiling.positions - tile * tiling.rows, 0, tiling.rows)
    counts = (rows * tiling.group_size).astype(jnp.float32)
    mean_of, square_of = (_load(a, (*place, tile), rows > 0) for a in (means, squares))
    count = jnp.sum(counts)
    mean = jnp.sum(counts * mean_of) / count
    return mean, jnp.sum(square_of + counts * (mean_of - mean) * (mean_of - mean)), count
