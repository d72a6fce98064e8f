"""An ONNX file of a program, with its manifest inside and, beyond 2 GB, its weights beside."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdet.exporting import selection
from jaxdet.exporting.convert import convert
from jaxdet.exporting.graph import ANY, TYPES, Graph, Operand, onnx
from jaxdet.exporting.programs import BATCH, Program
from jaxdet.files import atomic

OPSET = 18
_IR = 9
# Protocol buffers hold up to 2 GiB; the nodes take a few megabytes.
LARGEST = 2_000_000_000
_BOXES: dict[str, tuple[Any, list[Any]]] = {
    "boxes": (np.float32, [None, 4]),
    "scores": (np.float32, [None]),
    "labels": (np.int32, [None]),
    "image": (np.int32, [None]),
}
_WORTH_MOVING = 256  # bytes of a tensor


def build(program: Program, raw: bool) -> tuple[Graph, dict[str, tuple[str, Any, list[Any]]]]:
    """Graph of a program, and for each output by name: its tensor, element type and shape (None: any)."""
    graph = Graph()
    taken = {
        name: jax.ShapeDtypeStruct([n if isinstance(n, int) else ANY for n in s.shape], s.dtype)
        for name, s in program.inputs.items()
    }
    inputs = [graph.value(name, s.shape, s.dtype) for name, s in taken.items()]
    function = program.raw if raw else program.propose
    closed, shapes = jax.make_jaxpr(
        lambda *arrays: function(dict(zip(taken, arrays, strict=True))), return_shape=True
    )(*taken.values())
    tree = jax.tree.structure(shapes)
    results = jax.tree.unflatten(tree, convert(graph, closed, inputs))
    if raw:
        return graph, {name: _output(graph, v) for name, v in results.items()}
    candidates, valid, state = results
    found = selection.select(graph, program.rule, candidates, valid, program.image_size)
    outputs = {name: (tensor, *_BOXES[name]) for name, tensor in found.items()}
    return graph, outputs | {name: _output(graph, v) for name, v in state.items()}


def _output(graph: Graph, operand: Operand) -> tuple[str, Any, list[Any]]:
    return graph.arranged(operand), operand.dtype, [BATCH if n == ANY else n for n in operand.shape]


def output_name(name: str, state: tuple[str, ...]) -> str:
    """Name of an output in the file; ONNX wants other names for the new state than for the old."""
    return f"new_{name}" if name in state else name


def write(
    path: Path, program: Program, raw: bool, metadata: Mapping[str, str], largest: int = LARGEST
) -> None:
    """Write the file; weights of more than `largest` bytes go to `path` + ".data", which belongs to it."""
    helper, numpy_helper = onnx().helper, onnx().numpy_helper
    graph, outputs = build(program, raw)
    ends = []
    for name, (tensor, dtype, shape) in outputs.items():
        out = output_name(name, program.state)
        graph.nodes.append(helper.make_node("Identity", [tensor], [out]))
        ends.append(helper.make_tensor_value_info(out, TYPES[np.dtype(dtype).name], shape))
    starts = [
        helper.make_tensor_value_info(name, TYPES[np.dtype(s.dtype).name], _lengths(s.shape))
        for name, s in program.inputs.items()
    ]
    nodes, used = _needed(graph.nodes, [end.name for end in ends])
    weights = {name: a for name, a in graph.weights.items() if name in used}
    beside = sum(a.nbytes for a in weights.values()) > largest
    data = path.with_name(path.name + ".data")
    # Shapes and axes stay inside, where runtimes look for them.
    large = {n: a for n, a in weights.items() if beside and a.nbytes >= _WORTH_MOVING}
    tensors = [numpy_helper.from_array(a, n) for n, a in weights.items() if n not in large]
    tensors += _external(large, data) if large else []
    body = helper.make_graph(nodes, "jaxdet", starts, ends, tensors)
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR, producer_name="jaxdet"
    )
    helper.set_model_props(model, dict(metadata))
    with atomic(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _lengths(shape: Sequence[Any]) -> list[int | str]:
    """Lengths of axes; one that is left to the caller has a name."""
    return [n if isinstance(n, int) else str(n) for n in shape]


def _needed(nodes: Sequence[Any], outputs: Sequence[str]) -> tuple[list[Any], set[str]]:
    """The nodes on which outputs depend, and the names of all tensors that they take.

    ONNX Runtime computes other nodes as well.
    """
    kept, names = [], set(outputs)
    for node in reversed(nodes):
        if names.isdisjoint(node.output):
            continue
        kept.append(node)
        waiting = [node]
        while waiting:
            inner = waiting.pop()
            names.update(inner.input)
            waiting += [n for a in inner.attribute if a.HasField("g") for n in a.g.node]
            names.update(end.name for a in inner.attribute if a.HasField("g") for end in a.g.output)
    return kept[::-1], names


def _external(weights: Mapping[str, np.ndarray], path: Path) -> list[Any]:
    kind = onnx().TensorProto
    tensors = []
    with atomic(path) as temporary, open(temporary, "wb") as file:
        for name, array in weights.items():
            tensor = kind(name=name, data_type=TYPES[array.dtype.name], dims=array.shape)
            tensor.data_location = kind.EXTERNAL
            where = {"location": path.name, "offset": str(file.tell()), "length": str(array.nbytes)}
            for key, value in where.items():
                tensor.external_data.add(key=key, value=value)
            file.write(array.tobytes())
            file.write(b"\0" * (-file.tell() % os.sysconf("SC_PAGE_SIZE")))
            tensors.append(tensor)
    return tensors
