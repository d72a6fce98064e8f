"""ONNX nodes of JAX's primitives that work on each element, and of its reductions."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxdet.errors import InputError
from jaxdet.exporting.graph import Constant, Graph, Operand, Value, common_order, constant

# Primitives that are one node each; booleans have nodes of their own.
SAME = {
    "abs": "Abs",
    "add": "Add",
    "ceil": "Ceil",
    "div": "Div",
    "eq": "Equal",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "log": "Log",
    "logistic": "Sigmoid",
    "lt": "Less",
    "max": "Max",
    "min": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "pow": "Pow",
    "sign": "Sign",
    "sqrt": "Sqrt",
    "sub": "Sub",
    "tanh": "Tanh",
}
_LOGIC = {"and": "And", "or": "Or", "xor": "Xor", "not": "Not", "max": "Or", "min": "And"}
_COMPARES = {"eq", "ne", "ge", "gt", "le", "lt"}
_REDUCTIONS = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}


def apply(graph: Graph, operands: Sequence[Operand], dtype: Any, make: Callable[..., str]) -> Value:
    """Result of `make(names of stored tensors)`, elementwise over operands that broadcast to one shape."""
    shape = np.broadcast_shapes(*(v.shape for v in operands))
    ranked = [v for v in operands if len(v.shape) == len(shape)]
    order = common_order([v for v in ranked if isinstance(v, Value)] or operands)
    if len(order) != len(shape):
        order = tuple(range(len(shape)))
    names, stored = [], []
    for v in operands:
        own = order if len(v.shape) == len(shape) else ()
        names.append(graph.arranged(v, own, full=False))
        lengths = v.array.shape if isinstance(v, Constant) else dict(zip(v.order, v.stored))
        stored.append([lengths[a] for a in range(len(shape))] if own or not shape else [1] * len(shape))
    single = frozenset(a for a in range(len(shape)) if shape[a] != 1 and all(s[a] == 1 for s in stored))
    return Value(make(*names), shape, np.dtype(dtype), order, single)


def unary_or_more(graph: Graph, name: str, operands: Sequence[Operand], dtype: Any) -> Value:
    """One of the primitives of `SAME`, in booleans by logic."""
    boolean = np.dtype(operands[0].dtype) == bool
    if boolean and name not in _LOGIC and name != "eq":
        raise InputError(f"the primitive {name} of booleans has no ONNX form here; change the model")
    op = _LOGIC[name] if boolean and name in _LOGIC else SAME[name]
    return apply(graph, operands, dtype, lambda *names: graph.node(op, names))


def _through(graph: Graph, operands, dtype, *ops: str) -> Value:
    def make(*names: str) -> str:
        for op in ops:
            names = (graph.node(op, names),)
        return names[0]

    return apply(graph, operands, dtype, make)


def _like(operand: Operand, number: float) -> Constant:
    return constant(np.asarray(number, operand.dtype))


def erfc(graph: Graph, x: Operand) -> Value:
    """1 - erf(x)."""
    inner = unary_or_more(graph, "erf", [x], x.dtype)
    return unary_or_more(graph, "sub", [_like(x, 1), inner], x.dtype)


def integer_pow(graph: Graph, x: Operand, exponent: int) -> Value:
    """x to a whole power; the square is a product."""
    if exponent == 2:
        return unary_or_more(graph, "mul", [x, x], x.dtype)
    return unary_or_more(graph, "pow", [x, _like(x, exponent)], x.dtype)


def select(graph: Graph, which: Operand, cases: Sequence[Operand]) -> Value:
    """The second case where `which` is true, the first elsewhere."""
    if np.dtype(which.dtype) != bool or len(cases) != 2:
        raise InputError("select_n by numbers has no ONNX form here; select by a boolean")
    operands = [which, cases[1], cases[0]]
    return apply(graph, operands, cases[0].dtype, lambda *names: graph.node("Where", names))


def convert(graph: Graph, x: Operand, dtype: Any) -> Operand:
    """Another element type; fractions are cut off."""
    if np.dtype(x.dtype) == np.dtype(dtype):
        return x
    return apply(graph, [x], dtype, lambda name: graph.cast(name, dtype))


def simple(graph: Graph, name: str, operands: Sequence[Operand], params: dict, dtype: Any) -> Operand | None:
    """The other primitives that work on each element; None for one that is not known."""
    match name:
        case "ne":
            equal = unary_or_more(graph, "eq", operands, bool)
            return unary_or_more(graph, "not", [equal], bool) if equal else None
        case "rsqrt":
            return _through(graph, operands, dtype, "Sqrt", "Reciprocal")
        case "square":
            return integer_pow(graph, operands[0], 2)
        case "integer_pow":
            return integer_pow(graph, operands[0], params["y"])
        case "erfc":
            return erfc(graph, operands[0])
        case "rem":
            return apply(graph, operands, dtype, lambda *names: graph.node("Mod", names, fmod=1))
        case "clamp":
            low, x, high = operands
            return unary_or_more(graph, "min", [unary_or_more(graph, "max", [x, low], dtype), high], dtype)
        case "select_n":
            return select(graph, operands[0], operands[1:])
        case "convert_element_type":
            return convert(graph, operands[0], params["new_dtype"])
        case "and" | "or" | "xor" | "not" if np.dtype(dtype) == bool:
            op = _LOGIC[name]
            return apply(graph, operands, dtype, lambda *names: graph.node(op, names))
        case _ if name in SAME and name in _COMPARES:
            return unary_or_more(graph, name, operands, bool)
        case _ if name in SAME:
            return unary_or_more(graph, name, operands, dtype)
    return None


def reduced(graph: Graph, name: str, x: Operand, params: dict, shape: Sequence[int], dtype: Any) -> Value:
    """Sum, maximum, minimum, any or all over axes, and the index of the first maximum."""
    assert isinstance(x, Value)
    axes = [int(a) for a in params["axes"]]
    stored = graph.arranged(x, x.order)
    at = [x.order.index(axis) for axis in axes]
    left = [axis for axis in x.order if axis not in axes]
    order = tuple(sorted(left).index(axis) for axis in left)
    if name in ("argmax", "argmin"):
        op = "ArgMax" if name == "argmax" else "ArgMin"
        index = graph.node(op, [stored], axis=at[0], keepdims=0, select_last_index=0)
        return graph.value(graph.cast(index, dtype), shape, dtype, order)
    if name in ("reduce_or", "reduce_and"):
        op = "ReduceMax" if name == "reduce_or" else "ReduceMin"
        number = graph.node(op, [graph.cast(stored, np.int32), graph.ints(at)], keepdims=0)
        return graph.value(graph.cast(number, bool), shape, bool, order)
    result = graph.node(_REDUCTIONS[name], [stored, graph.ints(at)], keepdims=0)
    return graph.value(result, shape, dtype, order)


REDUCES = {*_REDUCTIONS, "reduce_or", "reduce_and", "argmax", "argmin"}
