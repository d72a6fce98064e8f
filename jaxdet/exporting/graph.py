"""An ONNX graph under construction, and arrays in it that may lie in another axis order than JAX's."""

import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdet.errors import InputError

# Element types of ONNX (onnx.TensorProto) by NumPy's name.
TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
}


# Length of an axis that is left to the caller of the file, while the graph is made: a prime, so that no other
# length is a multiple of it.
ANY = 32_749


def onnx() -> Any:
    """The package onnx, which is part of the extra "export" and imported where it is used."""
    return importlib.import_module("onnx")


@dataclass(frozen=True)
class Value:
    """An array of `shape` as JAX sees it. Axis i of the stored tensor `name` is axis `order[i]` of JAX.

    The axes in `single` are stored with length 1 and stand for equal slices, as NumPy broadcasts.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Any
    order: tuple[int, ...]
    single: frozenset[int] = frozenset()

    @property
    def stored(self) -> tuple[int, ...]:
        """Shape of the stored tensor."""
        return tuple(1 if axis in self.single else self.shape[axis] for axis in self.order)


@dataclass(frozen=True, eq=False)
class Constant:
    """An array of `shape` known while the graph is made; `array` broadcasts to it and has its rank."""

    array: np.ndarray
    shape: tuple[int, ...]

    @property
    def dtype(self) -> Any:
        """Element type."""
        return self.array.dtype

    def full(self) -> np.ndarray:
        """The array in its whole shape."""
        return np.broadcast_to(self.array, self.shape)


Operand = Value | Constant


def constant(array: Any) -> Constant:
    """A constant of an array or a number."""
    array = np.asarray(array)
    return Constant(array, array.shape)


class Graph:
    """Nodes and weights of an ONNX graph, or of a branch inside `parent`, which sees the parent's tensors."""

    def __init__(self, parent: "Graph | None" = None):
        self.nodes: list[Any] = []
        self._parent = parent
        self._root: Graph = parent._root if parent else self
        self._arranged: dict[tuple[str, tuple[int, ...]], str] = {}
        if parent is None:
            self.weights: dict[str, np.ndarray] = {}
            self._known: dict[Any, str] = {}
            self._count = 0

    def name(self, hint: str) -> str:
        """A name that no tensor of the graph and its branches has."""
        self._root._count += 1
        return f"{hint}_{self._root._count}"

    def node(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; returns the name of its output, or a list of names of several."""
        names = [self.name(op.lower()) for _ in range(outputs)]
        self.nodes.append(onnx().helper.make_node(op, list(inputs), names, name=names[0], **attributes))
        return names[0] if outputs == 1 else names

    def weight(self, array: Any) -> str:
        """Name of a constant tensor; equal ones are stored once."""
        if any(n % ANY == 0 for n in np.shape(array) if n):
            raise InputError("the model computes with the number of images; export it with --batch=N")
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        if array.dtype.name not in TYPES:
            raise InputError(f"{array.dtype.name} has no place in an ONNX file; give --dtype=float32")
        key = (array.dtype.str, array.shape, hashlib.blake2b(array.tobytes()).digest())
        root = self._root
        if key not in root._known:
            root._known[key] = self.name("weight")
            root.weights[root._known[key]] = array
        return root._known[key]

    def ints(self, values: Sequence[int]) -> str:
        """A constant vector of int64, as ONNX takes axes and bounds."""
        if any(n and n % ANY == 0 for n in values):
            raise InputError("the model computes with the number of images; export it with --batch=N")
        return self.weight(np.asarray(values, np.int64))

    def lengths(self, values: Sequence[int]) -> str:
        """A constant shape of a reshape; an axis that is left to the caller follows from the others."""
        return self.ints([-1 if n and n % ANY == 0 else n for n in map(int, values)])

    def arranged(self, operand: Operand, order: Sequence[int] | None = None, full: bool = True) -> str:
        """Name of a tensor that holds `operand` with its axes in `order` (JAX's own by default).

        With `full` no axis is stored as a single slice.
        """
        order = tuple(range(len(operand.shape))) if order is None else tuple(order)
        if isinstance(operand, Constant):
            array = operand.full() if full else operand.array
            return self.weight(np.transpose(array, order))
        name = operand.name
        if operand.order != order:
            moved = tuple(operand.order.index(axis) for axis in order)
            name = self._transposed(name, moved)
        if full and operand.single:
            # A length of 1 leaves the axis as it is.
            wanted = [operand.shape[axis] if axis in operand.single else 1 for axis in order]
            name = self.node("Expand", [name, self.ints(wanted)])
        return name

    def _transposed(self, name: str, moved: tuple[int, ...]) -> str:
        scope: Graph | None = self
        while scope is not None:
            if (name, moved) in scope._arranged:
                return scope._arranged[name, moved]
            scope = scope._parent
        result = self.node("Transpose", [name], perm=moved)
        self._arranged[name, moved] = result
        return result

    def cast(self, name: str, dtype: Any) -> str:
        """The tensor in another element type."""
        return self.node("Cast", [name], to=TYPES[np.dtype(dtype).name])

    def value(self, name: str, shape: Sequence[int], dtype: Any, order: Sequence[int] | None = None) -> Value:
        """A fully stored array."""
        shape = tuple(int(n) for n in shape)
        return Value(
            name, shape, np.dtype(dtype), tuple(range(len(shape))) if order is None else tuple(order)
        )


def common_order(operands: Sequence[Operand]) -> tuple[int, ...]:
    """The order of axes that leaves the largest stored operand where it is."""
    values = [v for v in operands if isinstance(v, Value)]
    return max(values, key=lambda v: (int(np.prod(v.stored)), len(v.shape))).order
