"""The kernels tried on the device before they are used.

A kernel that a driver miscompiles must not be trusted. Each is compared with XLA's operations on a small
input. On a GPU, driver or version of XLA where one fails, jaxdet goes on with XLA's operations, which are
slower, and says so.
"""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdet.errors import first_line
from jaxdet.ops import attention, group_norm_kernel, layer_norm, nms, nms_kernel, window_attention_kernel
from jaxdet.ops.group_norm_gradient import trained_group_norm
from jaxdet.ops.group_norm_kernel import NormOptions

logger = logging.getLogger(__name__)

_EXACT = 1e-4  # float32 sums in another order
_TENSOR_CORES = 1e-2  # TF32 products have ten bits

_Pair = tuple[Callable[..., object], Callable[..., object], tuple[jax.Array, ...], float]


def wanted() -> bool:
    """False if JAXDET_GPU_FORM=0 switches the forms of models for GPUs off."""
    return os.environ.get("JAXDET_GPU_FORM", "1") != "0"


def usable() -> bool:
    """True where the default device is a GPU, the kernels are wanted, and they work there."""
    return wanted() and jax.default_backend() == "gpu" and _passed()


@lru_cache(maxsize=1)
def _passed() -> bool:
    found = fault()
    if found is not None:
        logger.warning("%s; XLA's own operations are used, which are slower", found)
    return found is None


def fault(interpret: bool = False) -> str | None:
    """Fault of the kernels on the default device, None if they do what XLA's operations do.

    `interpret` runs them on any device, slowly, for tests.
    """
    # In a thread of its own: models are put together inside traced functions too, where nothing would run.
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(_first_fault, interpret).result()


def _first_fault(interpret: bool) -> str | None:
    for name, pair in _pairs(interpret):
        found = _difference(*pair)
        if found is not None:
            return f"the kernel of {name} {found}"
    return None


def _difference(
    kernel: Callable[..., object],
    plain: Callable[..., object],
    arrays: tuple[jax.Array, ...],
    tolerance: float,
) -> str | None:
    try:
        both = [jax.tree.leaves(jax.device_get(jax.jit(f)(*arrays))) for f in (kernel, plain)]
    except Exception as error:  # what compilers and drivers raise has no common class
        return f"does not run here ({type(error).__name__}: {first_line(error)})"
    for found, expected in zip(*both, strict=True):
        largest = max(1.0, float(np.abs(expected).max()))
        if not np.abs(found.astype(np.float64) - expected).max() <= tolerance * largest:
            return "computes something else here than XLA"
    return None


def _pairs(interpret: bool) -> Iterator[tuple[str, _Pair]]:
    """Name, kernel, XLA's operations, their input and the largest relative difference."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    yield "layer norm", _of_layer_norm(normal(300, 96), normal(96), normal(96), interpret)
    for grid in ((8, 8), (48, 48)):  # a group in one block of threads and in several
        image, plus, weights = normal(1, *grid, 64), normal(1, *grid, 64), (normal(64), normal(64))
        yield "group norm", _of_group_norm(image, *weights, plus, interpret)
    yield "window attention", _of_window_attention(normal, interpret)
    corner = jnp.asarray(rng.integers(0, 8, (1, 100, 2)) * 4.0, jnp.float32)
    yield "suppression", _of_suppression(jnp.concatenate([corner, corner + 16], -1), interpret)


def _with_gradient(function: Callable[..., Any], count: int) -> Callable[..., object]:
    """The value of `function`, and the gradient of a sum of its squares to its first `count` arguments."""

    def run(*arrays: jax.Array):
        squares = lambda *a: (function(*a) ** 2).sum()  # noqa: E731
        return function(*arrays), jax.grad(squares, tuple(range(count)))(*arrays)

    return run


def _fixed(scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Both without a gradient, and the parts that take it."""
    together = jnp.stack([scale, bias])
    parts = jnp.broadcast_to(together, (layer_norm.PARTS, *together.shape))
    return lax.stop_gradient(scale), lax.stop_gradient(bias), parts


def _of_layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, interpret: bool) -> _Pair:
    def kernel(x: jax.Array, scale: jax.Array, bias: jax.Array):
        return layer_norm.trained_layer_norm(x, *_fixed(scale, bias), 1e-5, interpret)

    def plain(x: jax.Array, scale: jax.Array, bias: jax.Array):
        return layer_norm.layer_norm(x, scale, bias, 1e-5)

    return _with_gradient(kernel, 3), _with_gradient(plain, 3), (x, scale, bias), _EXACT


def _of_group_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, plus: jax.Array, interpret: bool
) -> _Pair:
    def kernel(x: jax.Array, scale: jax.Array, bias: jax.Array, plus: jax.Array):
        options = NormOptions(32, 1e-5, True, None, interpret)
        return trained_group_norm(x, *_fixed(scale, bias), plus, options)

    def plain(x: jax.Array, scale: jax.Array, bias: jax.Array, plus: jax.Array):
        return jax.nn.silu(plus + group_norm_kernel.plain_group_norm(x, scale, bias, 32, 1e-5))

    return _with_gradient(kernel, 4), _with_gradient(plain, 4), (x, scale, bias, plus), _EXACT


def _of_window_attention(normal: Callable[..., jax.Array], interpret: bool) -> _Pair:
    size, heads = 7, 2
    arrays = normal(1, 14, 14, 64), normal(1, 14, 14, 128), normal(heads, size * size, size * size)

    def kernel(query: jax.Array, key_value: jax.Array, bias: jax.Array):
        outside = jnp.zeros(key_value.shape[-1])
        return window_attention_kernel.window_attention(query, key_value, outside, bias, size, interpret)

    def plain(query: jax.Array, key_value: jax.Array, bias: jax.Array):
        def cut(x: jax.Array):
            windows = attention.windows(x, size)
            return windows.reshape(*windows.shape[:3], heads, -1)

        key, value = jnp.split(key_value, 2, -1)
        found = attention.window_attention(cut(query * 32**-0.5), cut(key), cut(value), bias)
        return attention.unwindows(found.reshape(*found.shape[:3], -1), size, *query.shape[1:3])

    return kernel, plain, arrays, _TENSOR_CORES


def _of_suppression(boxes: jax.Array, interpret: bool) -> _Pair:
    labels, mask = jnp.zeros(boxes.shape[:2], jnp.int32), jnp.ones(boxes.shape[:2], bool)

    def kernel(boxes: jax.Array):
        rows = nms_kernel.best(boxes, mask.sum(1), 0.5, boxes.shape[1], interpret=interpret)
        return nms_kernel.suppress(boxes, labels, mask, 0.5, interpret=interpret)[0], rows[0]

    def plain(boxes: jax.Array):
        kept = nms.suppress(boxes[0], labels[0], mask[0], 0.5)
        return kept, jnp.flatnonzero(kept, size=kept.size, fill_value=-1)

    return kernel, plain, (boxes,), 0.0
