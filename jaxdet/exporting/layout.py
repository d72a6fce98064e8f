"""Reshapes and broadcasts of arrays whose axes are stored in another order, without moving data."""

from collections.abc import Sequence

import numpy as np

from jaxdet.exporting.graph import Constant, Graph, Operand, Value

Group = tuple[list[int], list[int]]


def groups(old: Sequence[int], new: Sequence[int]) -> list[Group]:
    """Axes of `old` and of `new` that become each other in a reshape, in the smallest groups."""
    found: list[Group] = []
    i = j = 0
    while i < len(old) or j < len(new):
        before, after = ([i] if i < len(old) else []), ([j] if j < len(new) else [])
        a, b = (old[i] if before else 1), (new[j] if after else 1)
        i, j = i + len(before), j + len(after)
        while a != b:
            if a < b:
                a, before, i = a * old[i], [*before, i], i + 1
            else:
                b, after, j = b * new[j], [*after, j], j + 1
        found.append((before, after))
    return found


def reshape(graph: Graph, operand: Operand, shape: Sequence[int]) -> Operand:
    """`operand` in another shape; its axes are put in JAX's order only where the reshape mixes them."""
    shape = tuple(int(n) for n in shape)
    if isinstance(operand, Constant):
        kept = _same_but_ones(operand, shape)
        return kept or Constant(np.reshape(operand.full(), shape), shape)
    order = None if 0 in operand.shape else _new_order(operand, shape)
    if order is not None and (cheap := _doubled(graph, operand, shape, order)) is not None:
        return graph.value(cheap, shape, operand.dtype, order)
    name = graph.arranged(operand, operand.order if order is not None else None)
    order = tuple(range(len(shape))) if order is None else order
    stored = graph.node("Reshape", [name, graph.lengths([shape[axis] for axis in order])])
    return graph.value(stored, shape, operand.dtype, order)


def _same_but_ones(operand: Constant, shape: tuple[int, ...]) -> Constant | None:
    """A constant whose reshape only adds or drops axes of length 1 stays as small as it is."""
    old = [(n, m) for n, m in zip(operand.shape, operand.array.shape, strict=True) if n != 1]
    if [n for n, _ in old] != [n for n in shape if n != 1]:
        return None
    lengths = iter([m for _, m in old])
    return Constant(operand.array.reshape([1 if n == 1 else next(lengths) for n in shape]), shape)


def _new_order(operand: Value, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Order of the new axes in a tensor that is reshaped where it lies; None where that mixes axes."""
    place = {axis: i for i, axis in enumerate(a for a in operand.order if operand.shape[a] != 1)}
    placed: list[tuple[float, list[int]]] = []
    last = -1.0
    for before, after in groups(operand.shape, shape):
        at = [place[axis] for axis in before if axis in place]
        if at != list(range(at[0], at[0] + len(at))) if at else False:
            return None
        last = float(at[0]) if at else last
        placed.append((last, after))
    return tuple(axis for _, after in sorted(placed, key=lambda item: item[0]) for axis in after)


def _doubled(graph: Graph, operand: Value, shape: tuple[int, ...], order: tuple[int, ...]) -> str | None:
    """Nearest-neighbour enlargement [b, h, 1, w, 1, c] -> [b, 2 h, 2 w, c] as the standard node."""
    if operand.single != {2, 4} or len(shape) != 4 or operand.order != (0, 5, 1, 2, 3, 4):
        return None
    b, h, rows, w, columns, c = operand.shape
    if shape != (b, h * rows, w * columns, c) or order != (0, 3, 1, 2):
        return None
    small = graph.node("Reshape", [operand.name, graph.lengths([b, c, h, w])])
    scales = graph.weight(np.array([1, 1, rows, columns], np.float32))
    return graph.node(
        "Resize",
        [small, "", scales],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def broadcast(graph: Graph, operand: Operand, shape: Sequence[int], axes: Sequence[int]) -> Operand:
    """`operand` with its axes at `axes` of `shape`; nothing is repeated in memory."""
    shape, axes = tuple(int(n) for n in shape), [int(axis) for axis in axes]
    if isinstance(operand, Constant):
        stored = [1] * len(shape)
        for axis, n in zip(axes, operand.array.shape, strict=True):
            stored[axis] = n
        return Constant(operand.array.reshape(stored), shape)
    order = [axes[axis] for axis in operand.order]
    for axis in range(len(shape)):
        if axis not in axes:
            order.insert(order.index(axis - 1) + 1 if axis else 0, axis)
    single = {axes[axis] for axis in operand.single} | {a for a in range(len(shape)) if a not in axes}
    single |= {new for old, new in enumerate(axes) if operand.shape[old] != shape[new]}
    lengths = dict(zip(axes, (1 if a in operand.single else n for a, n in enumerate(operand.shape))))
    name = operand.name
    if len(order) != len(operand.order):
        name = graph.node("Reshape", [name, graph.lengths([lengths.get(axis, 1) for axis in order])])
    single = frozenset(axis for axis in single if shape[axis] != 1)
    return Value(name, shape, operand.dtype, tuple(order), single)
