"""ONNX nodes of slices, joins, gathers and scatters."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdet.errors import InputError
from jaxdet.exporting import layout
from jaxdet.exporting.graph import Constant, Graph, Operand, Value, common_order

_REDUCE = {"scatter": "none", "scatter-add": "add", "scatter-max": "max", "scatter-min": "min"}


def cut(graph: Graph, x: Value, params: dict, shape, dtype: Any) -> Value:
    """A slice with fixed bounds; only axes that lose something are named."""
    start, stop = params["start_indices"], params["limit_indices"]
    step = params["strides"] or (1,) * len(start)
    axes = [i for i, n in enumerate(x.shape) if (start[i], stop[i], step[i]) != (0, n, 1)]
    if not axes:
        return x
    bounds = [graph.ints([int(part[i]) for i in axes]) for part in (start, stop)]
    at = graph.ints([x.order.index(i) for i in axes])
    steps = graph.ints([int(step[i]) for i in axes])
    name = graph.node("Slice", [graph.arranged(x, x.order), *bounds, at, steps])
    return graph.value(name, shape, dtype, x.order)


def cut_at(graph: Graph, x: Operand, starts: Sequence[Operand], shape, dtype: Any) -> Value:
    """A slice of fixed size whose start is data, moved inside as JAX does."""
    order = x.order if isinstance(x, Value) else tuple(range(len(x.shape)))
    parts = [graph.node("Reshape", [graph.arranged(starts[i]), graph.ints([1])]) for i in order]
    start = graph.cast(graph.node("Concat", parts, axis=0), np.int64)
    sizes = [int(shape[i]) for i in order]
    most = graph.ints([x.shape[i] - n for i, n in zip(order, sizes)])
    start = graph.node("Max", [graph.node("Min", [start, most]), graph.ints([0] * len(order))])
    stop = graph.node("Add", [start, graph.ints(sizes)])
    name = graph.node("Slice", [graph.arranged(x, order), start, stop, graph.ints(range(len(order)))])
    return graph.value(name, shape, dtype, order)


def join(graph: Graph, parts: Sequence[Operand], axis: int, shape, dtype: Any) -> Value:
    """Arrays one after the other along `axis`."""
    order = common_order(parts)
    names = [graph.arranged(part, order) for part in parts]
    return graph.value(graph.node("Concat", names, axis=order.index(axis)), shape, dtype, order)


def stack(graph: Graph, parts: Sequence[Operand], axis: int, shape, dtype: Any) -> Value:
    """Arrays side by side along a new axis."""
    raised = [layout.reshape(graph, p, (*p.shape[:axis], 1, *p.shape[axis:])) for p in parts]
    return join(graph, raised, axis, shape, dtype)


def split(graph: Graph, x: Value, params: dict, avals: Sequence[Any]) -> list[Value]:
    """Parts of given sizes along an axis."""
    sizes = graph.ints(params["sizes"])
    stored, at = graph.arranged(x, x.order), x.order.index(int(params["axis"]))
    names = graph.node("Split", [stored, sizes], outputs=len(params["sizes"]), axis=at)
    names = [names] if isinstance(names, str) else names
    return [graph.value(n, aval.shape, aval.dtype, x.order) for n, aval in zip(names, avals, strict=True)]


def pad(graph: Graph, x: Value, filling: Operand, params: dict, shape, dtype: Any) -> Value:
    """Padding with a constant before, after and between the entries of each axis."""
    low, high, inner = zip(*params["padding_config"], strict=True)
    if min(*low, *high, *inner) < 0 or not isinstance(filling, Constant):
        raise InputError("pad is exported with a constant, and not below zero; change the model")
    name, value = graph.arranged(x, x.order), graph.weight(filling.array)
    lengths = [x.shape[axis] for axis in x.order]
    for at, axis in enumerate(x.order):
        if inner[axis]:
            name = _spread(graph, name, lengths, at, inner[axis], value)
            lengths[at] *= 1 + inner[axis]
    # Each entry has brought as many behind it, the last one as well.
    after = [high[axis] - inner[axis] for axis in x.order]
    name = graph.node("Pad", [name, graph.ints([*(low[axis] for axis in x.order), *after]), value])
    return graph.value(name, shape, dtype, x.order)


def _spread(graph: Graph, name: str, lengths: Sequence[int], at: int, gap: int, value: str) -> str:
    """A tensor with `gap` entries of `value` behind each entry of axis `at`."""
    before, after = lengths[: at + 1], lengths[at + 1 :]
    column = graph.node("Reshape", [name, graph.ints([*before, 1, *after])])
    amounts = [0] * (len(lengths) + 1)
    amounts[at + 1] = gap
    wide = graph.node("Pad", [column, graph.ints([0] * len(amounts) + amounts), value])
    return graph.node("Reshape", [wide, graph.ints([*before[:-1], before[-1] * (1 + gap), *after])])


def _without_lanes(graph: Graph, what: str, x: Operand, axes: Sequence[int]) -> Operand:
    """The array without batching axes, each of which has one lane in an exported step."""
    if any(x.shape[axis] != 1 for axis in axes):
        raise InputError(f"{what} over several lanes has no ONNX form here; export one lane")
    kept = [n for axis, n in enumerate(x.shape) if axis not in axes]
    return layout.reshape(graph, x, kept) if axes else x


def gather(graph: Graph, x: Operand, index: Operand, params: dict, shape, dtype: Any) -> Operand:
    """Rows of `x` by an array of indices along one axis."""
    numbers = params["dimension_numbers"]
    lanes = [int(a) for a in numbers.operand_batching_dims]
    index_lanes = [int(a) for a in numbers.start_indices_batching_dims]
    collapsed = [int(a) for a in numbers.collapsed_slice_dims]
    whole = [n == x.shape[i] or i in collapsed or i in lanes for i, n in enumerate(params["slice_sizes"])]
    if collapsed != [int(a) for a in numbers.start_index_map] or len(collapsed) != 1 or not all(whole):
        raise InputError("gather is exported for whole rows along one axis only; change the model")
    axis = collapsed[0] - sum(a < collapsed[0] for a in lanes)
    x = _without_lanes(graph, "gather", x, lanes)
    index = _without_lanes(graph, "gather", index, index_lanes)
    index = layout.reshape(graph, index, index.shape[:-1])
    if "FILL" in str(params["mode"]) and not _inside(index, x.shape[axis]):
        raise InputError("gather that fills outside the array has no ONNX form here; use mode='clip'")
    order = x.order if isinstance(x, Value) else tuple(range(len(x.shape)))
    at = order.index(axis)
    name = graph.node("Gather", [graph.arranged(x, order), _clipped(graph, index, x.shape[axis])], axis=at)
    window = [int(d) for d in numbers.offset_dims]
    # Axes of the result: those of the window in order, those of the index in the places left over.
    window_of = dict(zip((a for a in range(len(x.shape)) if a != axis), window, strict=True))
    rest = [d for d in range(len(shape)) if d not in window]
    lane_places = rest[: len(rest) - len(index.shape)]
    of_index = rest[len(rest) - len(index.shape) :]
    new = [d for a in order for d in (of_index if a == axis else [window_of[a]])]
    shortened = [d for d in range(len(shape)) if d not in lane_places]
    found = graph.value(name, [shape[d] for d in shortened], dtype, [shortened.index(d) for d in new])
    return layout.reshape(graph, found, shape) if lane_places else found


def _inside(index: Operand, length: int) -> bool:
    """Indices are known and none lies outside."""
    if not isinstance(index, Constant):
        return False
    return bool(((index.array >= 0) & (index.array < length)).all())


def _clipped(graph: Graph, index: Operand, length: int) -> str:
    if isinstance(index, Constant):
        return graph.weight(np.clip(index.full(), 0, length - 1).astype(np.int64))
    wide = graph.cast(graph.arranged(index), np.int64)
    return graph.node("Clip", [wide, graph.weight(np.int64(0)), graph.weight(np.int64(length - 1))])


def scatter(graph: Graph, what: str, operands: Sequence[Operand], params: dict, shape, dtype: Any) -> Operand:
    """Rows put, added or maximised into an array along one axis; rows outside are dropped."""
    x, index, updates = operands
    numbers = params["dimension_numbers"]
    lanes = [int(a) for a in numbers.operand_batching_dims]
    inserted = [int(a) for a in numbers.inserted_window_dims]
    if inserted != [int(a) for a in numbers.scatter_dims_to_operand_dims] or len(inserted) != 1:
        raise InputError(f"{what} is exported for whole rows along one axis only; change the model")
    index_lanes = [int(a) for a in numbers.scatter_indices_batching_dims]
    window = [int(d) for d in numbers.update_window_dims]
    rest = [d for d in range(len(updates.shape)) if d not in window]
    axis = inserted[0] - sum(a < inserted[0] for a in lanes)
    x, index = _without_lanes(graph, what, x, lanes), _without_lanes(graph, what, index, index_lanes)
    updates = _without_lanes(graph, what, updates, rest[: len(index_lanes)])
    if axis != 0 or window != list(range(len(rest), len(rest) + len(window))):
        raise InputError(f"{what} is exported along the first axis only; change the model")
    length, row = x.shape[0], graph.weight(np.int64(x.shape[0]))
    wide = graph.cast(graph.arranged(index), np.int64)
    outside = graph.node(
        "Or", [graph.node("Less", [wide, graph.weight(np.int64(0))]), graph.node("Greater", [wide, row])]
    )
    wide = graph.node("Where", [outside, row, wide])
    # One more row receives what is dropped.
    if isinstance(x, Constant):
        longer = graph.weight(np.concatenate([x.full(), x.full()[:1]]))
    else:
        stored = graph.arranged(x)
        first = graph.node("Slice", [stored, graph.ints([0]), graph.ints([1]), graph.ints([0])])
        longer = graph.node("Concat", [stored, first], axis=0)
    done = graph.node("ScatterND", [longer, wide, graph.arranged(updates)], reduction=_REDUCE[what])
    kept = graph.node("Slice", [done, graph.ints([0]), graph.ints([length]), graph.ints([0])])
    return layout.reshape(graph, graph.value(kept, x.shape, dtype), shape)


SCATTERS = set(_REDUCE)
