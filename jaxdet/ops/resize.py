"""Bilinear resizing of grids: half-pixel centres, edges repeated, no antialiasing."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Shaped


def bilinear(x: Shaped[Array, "B H W C"], size: tuple[int, ...]) -> Shaped[Array, "B h w C"]:
    """`x` at `size` (height, width); the scale of each axis is the ratio of its two sizes.

    Twice and half the size are sums of slices. Any other size is a product with a matrix of two weights a
    row, whose gradient needs no scatter.
    """
    height, width = x.shape[1:3]
    if size == (2 * height, 2 * width):
        return double(x)
    if (2 * size[0], 2 * size[1]) == (height, width):
        return halve(x)
    highest = lax.Precision.HIGHEST
    if size[0] != height:
        rows = jnp.asarray(weights(height, size[0]), x.dtype)
        x = jnp.einsum("oh,bhwc->bowc", rows, x, precision=highest)
    if size[1] != width:
        columns = jnp.asarray(weights(width, size[1]), x.dtype)
        x = jnp.einsum("ow,bhwc->bhoc", columns, x, precision=highest)
    return x


def weights(size: int, new_size: int) -> np.ndarray:
    """Weights float64 [new_size, size] by which the entries of an axis are summed."""
    at = np.clip((np.arange(new_size) + 0.5) * size / new_size - 0.5, 0, size - 1)
    low = at.astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    out, rows = np.zeros((new_size, size)), np.arange(new_size)
    out[rows, low] = 1 - (at - low)
    out[rows, high] += at - low
    return out


def grids_of(size: Sequence[int], window: int, num_memories: int) -> list[tuple[int, int]]:
    """Rows and columns of the grid of each memory, for an image of `size` (height, width)."""
    grids = [(-(-size[0] // window), -(-size[1] // window))]
    for _ in range(num_memories - 1):
        rows, columns = grids[-1]
        grids.append((-(-rows // 2), -(-columns // 2)))
    return grids


def cells(values: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """`values` [1, rows * columns, C] of the grid `old` (rows, columns) on the grid `new`, in their type."""
    rows, columns = (weights(a, b) for a, b in zip(old, new, strict=True))
    of_new = np.einsum("oh,bhwc,pw->bopc", rows, values.reshape(1, *old, -1), columns, optimize=True)
    return of_new.reshape(1, new[0] * new[1], -1).astype(values.dtype)


def double(x: Shaped[Array, "B H W C"]) -> Shaped[Array, "B 2*H 2*W C"]:
    """Twice the size: weights 3/4 and 1/4, edges repeated."""
    joined = lambda x: _double_axis(_double_axis(x, 1), 2)  # noqa: E731
    padded = lambda x: _double_axis_padded(_double_axis_padded(x, 1), 2)  # noqa: E731
    return lax.platform_dependent(x, cpu=joined, default=padded)


def halve(x: Shaped[Array, "B H W C"]) -> Shaped[Array, "B H//2 W//2 C"]:
    """Half the size: the mean of each 2x2 square. Height and width must be even."""
    rows = x[:, ::2] + x[:, 1::2]
    return (rows[:, :, ::2] + rows[:, :, 1::2]) / 4


def _double_axis(x: Array, axis: int):
    n = x.shape[axis]
    first, last = jnp.take(x, jnp.array([0]), axis), jnp.take(x, jnp.array([n - 1]), axis)
    before = jnp.concatenate([first, _part(x, axis, 0, n - 1)], axis)
    after = jnp.concatenate([_part(x, axis, 1, n), last], axis)
    pair = jnp.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis + 1)
    return pair.reshape((*x.shape[:axis], 2 * n, *x.shape[axis + 1 :]))


def _double_axis_padded(x: Array, axis: int):
    """The same without concatenations, each of which is a kernel of its own on GPUs."""
    n = x.shape[axis]
    at = lax.broadcasted_iota(jnp.int32, x.shape, axis)
    before = jnp.where(at == 0, x, _spread(_part(x, axis, 0, n - 1), axis, 1, 0, 0))
    after = jnp.where(at == n - 1, x, _spread(_part(x, axis, 1, n), axis, 0, 1, 0))
    even, odd = 0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after
    return _spread(even, axis, 0, 1, 1) + _spread(odd, axis, 1, 0, 1)


def _spread(x: Array, axis: int, low: int, high: int, interior: int):
    """`x` with zeros before, after and between its entries along `axis`."""
    config = [(0, 0, 0)] * x.ndim
    config[axis] = low, high, interior
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _part(x: Array, axis: int, start: int, stop: int):
    return x[(slice(None),) * axis + (slice(start, stop),)]
