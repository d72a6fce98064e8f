"""From a closed jaxpr to the nodes of an ONNX graph, channels first wherever there are convolutions.

What depends on no input is computed here. Of code that depends on the platform, that for other platforms than
CPU is taken. A primitive without a rule is refused by its name.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxdet.errors import InputError
from jaxdet.exporting import elementwise, indexing, layout, products
from jaxdet.exporting.graph import TYPES, Constant, Graph, Operand, Value, constant, onnx

_INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}
_UNCHANGED = {"copy", "copy_p", "name", "stop_gradient", "optimization_barrier"}


def convert(graph: Graph, closed: Any, inputs: Sequence[Operand]) -> list[Operand]:
    """Add the nodes of a closed jaxpr; `inputs` and the results are in the order of its variables.

    Raises InputError for a primitive that has no rule.
    """
    return _run(graph, closed.jaxpr, [constant(c) for c in closed.consts], inputs)


def _run(graph: Graph, jaxpr: Any, consts: Sequence[Operand], inputs: Sequence[Operand]) -> list[Operand]:
    known: dict[Any, Operand] = dict(zip(jaxpr.constvars, consts, strict=True))
    known |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Operand:
        if isinstance(atom, core.Literal):
            kind: Any = atom.aval
            return constant(np.asarray(atom.val, kind.dtype))
        return known[atom]

    for equation in jaxpr.eqns:
        results = _equation(graph, equation, [read(atom) for atom in equation.invars])
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(graph: Graph, equation: Any, operands: list[Operand]) -> list[Operand]:
    name, params = equation.primitive.name, equation.params
    avals = [v.aval for v in equation.outvars]
    if name in _INLINED:
        inner = params[_INLINED[name]]
        jaxpr = getattr(inner, "jaxpr", inner)
        return _run(graph, jaxpr, [constant(c) for c in getattr(inner, "consts", ())], operands)
    if name in _UNCHANGED:
        return operands
    if name == "platform_index":
        return [constant(np.int32(len(params["platforms"]) - 1))]
    if name == "cond":
        return _branches(graph, params["branches"], operands[0], operands[1:], avals)
    if name in ("broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose"):
        return [_moved(graph, name, operands[0], params, avals[0].shape)]
    known = [v for v in operands if isinstance(v, Constant)]
    if len(known) == len(operands):
        return _computed(equation, known)
    return _node(graph, name, operands, params, avals)


def _computed(equation: Any, operands: Sequence[Constant]) -> list[Operand]:
    """The result of an equation of constants. What is still to be broadcast is not repeated in memory."""
    name, params = equation.primitive.name, equation.params
    shapes = {v.shape for v in operands if v.shape}
    elementwise_only = name in elementwise.SAME and len(shapes) == 1
    arrays = [v.array if elementwise_only else v.full() for v in operands]
    if elementwise_only:
        joined = np.broadcast_shapes(*(a.shape for a in arrays))
        arrays = [np.broadcast_to(a, joined) if a.ndim else a for a in arrays]
    found = equation.primitive.bind(*arrays, **params)
    found = found if equation.primitive.multiple_results else [found]
    shape_of = [v.aval.shape for v in equation.outvars]
    return [Constant(np.asarray(a), shape) for a, shape in zip(jax.device_get(found), shape_of, strict=True)]


def _moved(graph: Graph, name: str, x: Operand, params: dict, shape) -> Operand:
    if name == "broadcast_in_dim":
        return layout.broadcast(graph, x, shape, params["broadcast_dimensions"])
    if name != "transpose":
        if params.get("dimensions") is not None and name == "reshape":
            raise InputError("reshape with an order of axes has no ONNX form here; transpose first")
        return layout.reshape(graph, x, shape)
    axes = [int(a) for a in params["permutation"]]
    if isinstance(x, Constant):
        return Constant(np.transpose(x.array, axes), shape)
    order = tuple(axes.index(axis) for axis in x.order)
    return Value(x.name, tuple(shape), x.dtype, order, frozenset(axes.index(axis) for axis in x.single))


def _node(
    graph: Graph, name: str, operands: list[Operand], params: dict, avals: Sequence[Any]
) -> list[Operand]:
    shape, dtype = avals[0].shape, avals[0].dtype
    first = operands[0]
    found: Operand | None
    match name:
        case "conv_general_dilated":
            found = products.convolution(graph, first, operands[1], params, shape, dtype)
        case "dot_general":
            found = products.product(graph, first, operands[1], params, shape, dtype)
        case "reduce_window_max":
            found = products.max_pool(graph, first, params, shape, dtype)
        case "slice":
            assert isinstance(first, Value)
            found = indexing.cut(graph, first, params, shape, dtype)
        case "dynamic_slice":
            found = indexing.cut_at(graph, first, operands[1:], shape, dtype)
        case "concatenate":
            found = indexing.join(graph, operands, int(params["dimension"]), shape, dtype)
        case "stack":
            found = indexing.stack(graph, operands, int(params["axis"]), shape, dtype)
        case "split":
            assert isinstance(first, Value)
            return list(indexing.split(graph, first, params, avals))
        case "pad" if isinstance(first, Value):
            found = indexing.pad(graph, first, operands[1], params, shape, dtype)
        case "gather":
            found = indexing.gather(graph, first, operands[1], params, shape, dtype)
        case _ if name in indexing.SCATTERS:
            found = indexing.scatter(graph, name, operands, params, shape, dtype)
        case _ if name in elementwise.REDUCES:
            found = elementwise.reduced(graph, name, first, params, shape, dtype)
        case _:
            found = elementwise.simple(graph, name, operands, params, dtype)
    if found is None:
        raise InputError(
            f"the primitive {name!r} of the model has no ONNX form here; export to .stablehlo, or change the "
            "model"
        )
    return [found]


def _branches(graph: Graph, branches, index: Operand, operands: Sequence[Operand], avals) -> list[Operand]:
    """One of several programs by a number: known, it is put in place; otherwise one `If` inside the other."""
    if isinstance(index, Constant):
        chosen = branches[int(np.clip(index.array, 0, len(branches) - 1))]
        return convert(graph, chosen, operands)
    if len(branches) == 1:
        return convert(graph, branches[0], operands)
    first = index if np.dtype(index.dtype) != bool else elementwise.convert(graph, index, np.int32)
    chain = _chain(graph, list(branches), 0, first, operands, avals)
    return [graph.value(name, aval.shape, aval.dtype) for name, aval in zip(chain, avals, strict=True)]


def _chain(graph: Graph, branches, number: int, index: Operand, operands, avals) -> list[str]:
    helper = onnx().helper
    if len(branches) == 1:
        return [graph.arranged(v) for v in convert(graph, branches[0], operands)]
    test = graph.node("LessOrEqual", [graph.arranged(index), graph.weight(np.asarray(number, index.dtype))])

    def body(rest, is_first: bool):
        inner = Graph(graph)
        if is_first:
            names = [inner.arranged(v) for v in convert(inner, branches[0], operands)]
        else:
            names = _chain(inner, branches[1:], number + 1, index, operands, avals)
        # A branch gives names of its own, also for what it only passes on.
        names = [inner.node("Identity", [name]) for name in names]
        outputs = [
            helper.make_tensor_value_info(n, TYPES[np.dtype(aval.dtype).name], aval.shape)
            for n, aval in zip(names, avals, strict=True)
        ]
        return helper.make_graph(inner.nodes, inner.name("branch"), [], outputs)

    then, other = body(None, True), body(None, False)
    names = graph.node("If", [test], outputs=len(avals), then_branch=then, else_branch=other)
    return [names] if isinstance(names, str) else names
