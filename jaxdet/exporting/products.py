"""ONNX nodes of convolutions, pooling and matrix products."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdet.errors import InputError
from jaxdet.exporting.graph import Constant, Graph, Operand, Value

_CHANNELS_FIRST = (0, 3, 1, 2)


def convolution(graph: Graph, x: Operand, kernel: Operand, params: dict, shape, dtype: Any) -> Value:
    """A convolution with its channels first, whatever order JAX names."""
    numbers = params["dimension_numbers"]
    if any(d != 1 for d in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise InputError("a transposed or batch-grouped convolution has no ONNX form here; change the model")
    low, high = zip(*params["padding"], strict=True)
    if min(*low, *high) < 0:
        raise InputError("a convolution with negative padding has no ONNX form here; change the model")
    weights = np.array(kernel.shape)[list(numbers.rhs_spec)]
    name = graph.node(
        "Conv",
        [graph.arranged(x, numbers.lhs_spec), graph.arranged(kernel, numbers.rhs_spec)],
        kernel_shape=[int(n) for n in weights[2:]],
        strides=list(params["window_strides"]),
        dilations=list(params["rhs_dilation"]),
        pads=[*low, *high],
        group=params["feature_group_count"],
    )
    return graph.value(name, shape, dtype, numbers.out_spec)


def max_pool(graph: Graph, x: Operand, params: dict, shape, dtype: Any) -> Value:
    """Maximum over windows of two axes; the border counts as minus infinity."""
    window = params["window_dimensions"]
    axes = [axis for axis, n in enumerate(window) if n != 1]
    dilated = any(n != 1 for key in ("base_dilation", "window_dilation") for n in params[key])
    if len(x.shape) != 4 or len(axes) != 2 or dilated:
        raise InputError("reduce_window_max is exported over two axes of four only; change the model")
    order = (*(a for a in range(4) if a not in axes), *axes)
    low, high = zip(*(params["padding"][a] for a in axes), strict=True)
    name = graph.node(
        "MaxPool",
        [graph.arranged(x, order)],
        kernel_shape=[window[a] for a in axes],
        strides=[params["window_strides"][a] for a in axes],
        pads=[*low, *high],
    )
    return graph.value(name, shape, dtype, order)


def product(graph: Graph, a: Operand, b: Operand, params: dict, shape: Sequence[int], dtype: Any) -> Value:
    """A matrix product over any axes; one over the channels of an image is a 1x1 convolution."""
    (sum_a, sum_b), (batch_a, batch_b) = params["dimension_numbers"]
    sum_a, sum_b, batch_a, batch_b = (tuple(map(int, t)) for t in (sum_a, sum_b, batch_a, batch_b))
    plain = (sum_a, sum_b, batch_a) == ((len(a.shape) - 1,), (0,), ()) and len(b.shape) == 2
    if plain and isinstance(a, Value) and len(a.shape) == 4 and a.order == _CHANNELS_FIRST:
        return _pointwise(graph, a, b, shape, dtype)
    if plain:
        # Only the last axis has to lie last.
        lead = [axis for axis in a.order if axis != sum_a[0]] if isinstance(a, Value) else [*range(sum_a[0])]
        name = graph.node("MatMul", [graph.arranged(a, [*lead, sum_a[0]]), graph.arranged(b)])
        return graph.value(name, shape, dtype, [*lead, len(shape) - 1])
    free_a = [i for i in range(len(a.shape)) if i not in sum_a + batch_a]
    free_b = [i for i in range(len(b.shape)) if i not in sum_b + batch_b]
    left = _matrix(graph, a, batch_a, free_a, sum_a)
    right = _matrix(graph, b, batch_b, sum_b, free_b)
    name = graph.node("MatMul", [left, right])
    return graph.value(graph.node("Reshape", [name, graph.lengths(shape)]), shape, dtype)


def _pointwise(graph: Graph, x: Value, kernel: Operand, shape, dtype: Any) -> Value:
    if isinstance(kernel, Constant):
        weights = graph.weight(kernel.full().T[:, :, None, None])
    else:
        turned = graph.arranged(kernel, (1, 0))
        weights = graph.node("Unsqueeze", [turned, graph.ints([2, 3])])
    name = graph.node("Conv", [graph.arranged(x, x.order), weights], kernel_shape=[1, 1])
    return graph.value(name, shape, dtype, _CHANNELS_FIRST)


def _matrix(
    graph: Graph, x: Operand, batch: Sequence[int], rows: Sequence[int], columns: Sequence[int]
) -> str:
    """The operand as a stack of matrices: batch axes, then one of rows and one of columns."""
    name = graph.arranged(x, [*batch, *rows, *columns])
    if len(rows) == len(columns) == 1:
        return name
    size = lambda axes: int(np.prod([x.shape[i] for i in axes], dtype=np.int64))  # noqa: E731
    return graph.node(
        "Reshape", [name, graph.lengths([*(x.shape[i] for i in batch), size(rows), size(columns)])]
    )
