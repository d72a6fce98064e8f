"""3x3 convolutions with four times fewer multiplications, for CPUs.

F(4x4, 3x3) of Lavin and Gray 2016 (arXiv 1509.09308): output tiles of 4x4 from input tiles of 6x6. Errors are
about 1e-5 of the largest output in float32; half types are too coarse for it.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from jaxdet.nn.conv import Conv, conv2d
from jaxdet.nn.functional import Skeleton, Variables, replaced

_TILE = 4
_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])

# Below this many channels in or out the transforms cost more than they save.
_MIN_CHANNELS = 64


def transform_kernel(kernel: Float[Array, "3 3 Ci Co"]) -> Float[Array, "36 Ci Co"]:
    """The transformed kernel that `conv3x3` takes."""
    return _both_sides(_KERNEL, kernel).reshape(36, *kernel.shape[2:])


def conv3x3(x: Float[Array, "B H W Ci"], kernel: Float[Array, "36 Ci Co"]) -> Float[Array, "B H W Co"]:
    """Convolution of stride 1 with one zero on every side; `kernel` from `transform_kernel`."""
    return _output(_input_tiles(x) @ kernel, x.shape)


def _output(products: Float[Array, "36 n C"], image: tuple[int, ...]) -> Float[Array, "B H W C"]:
    """The output that the products of all tiles of an `image` make."""
    b, h, w, _ = image
    rows, columns = _num_tiles(h, w)
    products = products.reshape(6, 6, b, rows, columns, -1)
    wide = [jnp.stack(_combine(_OUTPUT, [products[i, j] for j in range(6)]), 3) for i in range(6)]
    out = jnp.stack(_combine(_OUTPUT, wide), 2)
    return out.reshape(b, rows * _TILE, columns * _TILE, -1)[:, :h, :w]


def _num_tiles(height: int, width: int) -> tuple[int, int]:
    return -(-height // _TILE), -(-width // _TILE)


def _input_tiles(x: Float[Array, "B H W C"]) -> Float[Array, "36 n C"]:
    """The transformed input of all n tiles."""
    _, h, w, c = x.shape
    rows, columns = _num_tiles(h, w)
    x = jnp.pad(x, ((0, 0), (1, 1 + rows * _TILE - h), (1, 1 + columns * _TILE - w), (0, 0)))
    lines = [x[:, i : i + _TILE * (rows - 1) + 1 : _TILE] for i in range(6)]
    tiles = []
    for line in _combine(_INPUT, lines):
        points = [line[:, :, j : j + _TILE * (columns - 1) + 1 : _TILE] for j in range(6)]
        tiles += _combine(_INPUT, points)
    return jnp.stack([t.reshape(-1, c) for t in tiles])


def _gradient_tiles(dy: Float[Array, "B H W C"]) -> Float[Array, "36 n C"]:
    """Gradients of the products of all n tiles, from those of the output."""
    b, h, w, c = dy.shape
    rows, columns = _num_tiles(h, w)
    dy = jnp.pad(dy, ((0, 0), (0, rows * _TILE - h), (0, columns * _TILE - w), (0, 0)))
    cut = dy.reshape(b, rows, _TILE, columns, _TILE, c)
    tiles = []
    for line in _combine(_OUTPUT.T, [cut[:, :, i] for i in range(_TILE)]):
        tiles += _combine(_OUTPUT.T, [line[:, :, :, j] for j in range(_TILE)])
    return jnp.stack([t.reshape(-1, c) for t in tiles])


@jax.custom_vjp
def trained_conv3x3(
    x: Float[Array, "B H W Ci"], kernel: Float[Array, "3 3 Ci Co"]
) -> Float[Array, "B H W Co"]:
    """`conv3x3` of a plain kernel, whose gradients take as few multiplications."""
    return conv3x3(x, transform_kernel(kernel))


def _trained_fwd(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return trained_conv3x3(x, kernel), (x, kernel)


def _trained_bwd(residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    flipped = transform_kernel(kernel[::-1, ::-1])
    dx = _output(jnp.einsum("pno,pio->pni", _input_tiles(dy), flipped), dy.shape)
    products = jnp.einsum("pni,pno->pio", _input_tiles(x), _gradient_tiles(dy))
    return dx, _both_sides(_KERNEL.T, products.reshape(6, 6, *products.shape[1:]))


trained_conv3x3.defvjp(_trained_fwd, _trained_bwd)


def _combine(matrix: np.ndarray, parts: list[Array]) -> list[Array]:
    """Rows of `matrix` times `parts`, as sums that leave the zeros out."""
    out = []
    for row in matrix:
        terms = [part * float(k) if k != 1 else part for k, part in zip(row, parts, strict=True) if k]
        out.append(functools.reduce(operator.add, terms))
    return out


def _both_sides(matrix: np.ndarray, x: Array) -> Array:
    """`matrix` times the first two axes of `x`, one after the other.

    As sums they take a twentieth of the time of products with so small a matrix. The barrier keeps the first
    from being computed again for each term of the second.
    """
    lines = lax.optimization_barrier(jnp.stack(_combine(matrix, list(x))))
    return jnp.stack(_combine(matrix, [lines[:, j] for j in range(lines.shape[1])]), 1)


class WinogradConv(nnx.Module):
    """The convolution of a `Conv`, with the kernel transformed ahead."""

    def __init__(self, conv: Conv):
        self.kernel = nnx.Param(transform_kernel(conv.kernel[...]))
        self.bias = nnx.Param(conv.bias[...]) if conv.bias is not None else None

    def __call__(self, x: Float[Array, "B H W Ci"]) -> Float[Array, "B H W Co"]:
        y = conv3x3(x, self.kernel[...])
        return y if self.bias is None else y + self.bias[...].reshape(1, 1, 1, -1)


class TrainedWinogradConv(nnx.Module):
    """The convolution of a `Conv` with the same weights, and gradients by Winograd's algorithm."""

    def __init__(self, conv: Conv):
        self.kernel, self.bias = conv.kernel, conv.bias

    def __call__(self, x: Float[Array, "B H W Ci"]) -> Float[Array, "B H W Co"]:
        half = jnp.finfo(x.dtype).bits < 32
        y = conv2d(x, self.kernel[...].astype(x.dtype)) if half else trained_conv3x3(x, self.kernel[...])
        return y if self.bias is None else y + self.bias[...].astype(x.dtype).reshape(1, 1, 1, -1)


def accelerate_training(skeleton: Skeleton, variables: Variables) -> tuple[Skeleton, Variables]:
    """The same model and weights with wide float32 3x3 convolutions of stride 1 by Winograd's algorithm."""
    return replaced(
        skeleton, variables, Conv, lambda conv: TrainedWinogradConv(conv) if _pays(conv) else conv
    )


def accelerate(skeleton: Skeleton, variables: Variables) -> tuple[Skeleton, Variables]:
    """The same model with all its wide 3x3 convolutions of stride 1 replaced; nothing is changed in place."""
    return replaced(skeleton, variables, Conv, lambda conv: WinogradConv(conv) if _pays(conv) else conv)


def _pays(conv: Conv) -> bool:
    size, _, in_features, out_features = conv.kernel.shape
    wide = conv.dtype is None or jnp.finfo(conv.dtype).bits >= 32
    plain = (size, conv.stride, conv.groups) == (3, 1, 1)
    return wide and plain and min(in_features, out_features) >= _MIN_CHANNELS
