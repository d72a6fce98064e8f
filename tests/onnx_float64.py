"""ONNX graphs in float64, evaluated in NumPy by the reference evaluator of onnx, and graphs compared.

ONNX Runtime and OpenVINO have no convolution of float64.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.special

from jaxdet.exporting.runtimes import Run

onnx: Any = pytest.importorskip("onnx")
reference: Any = pytest.importorskip("onnx.reference")
OpRun: Any = reference.op_run.OpRun


class Erf(OpRun):
    """Error function; the evaluator's own rounds to float32."""

    def _run(self, x):
        return (scipy.special.erf(x),)


class NonMaxSuppression(OpRun):
    """Greedy suppression of boxes by their corners, class by class.

    The evaluator's own takes limit and thresholds as vectors, where the standard has scalars.
    """

    def _run(self, boxes, scores, most, iou, least, **_):
        rows: list[tuple[int, int, int]] = []
        for slot, label in np.ndindex(*scores.shape[:2]):
            low, high, score = boxes[slot, :, :2], boxes[slot, :, 2:], scores[slot, label]
            area = (high - low).prod(1)
            free, kept = score > least, []
            for i in np.argsort(-score, kind="stable"):
                if free[i] and len(kept) < most:
                    kept.append((slot, label, int(i)))
                    common = (np.minimum(high, high[i]) - np.maximum(low, low[i])).clip(0).prod(1)
                    free &= common <= iou * (area + area[i] - common)
            rows += kept
        return (np.array(rows, np.int64).reshape(-1, 3),)


def evaluator(model: Any, outputs: Sequence[str] | None = None) -> Run:
    """Function from inputs to the outputs of a graph that computes in float64; only to some, if named.

    What is left in float32, inputs and thresholds, is widened: the evaluator insists on one type.
    """
    names = list(outputs or (output.name for output in model.graph.output))
    extractor = onnx.utils.Extractor(model)
    part = extractor.extract_model([i.name for i in model.graph.input], names)
    for tensor in part.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(_wide(onnx.numpy_helper.to_array(tensor)), tensor.name))
    whole = reference.ReferenceEvaluator(part, new_ops=[Erf, NonMaxSuppression])
    return lambda inputs: dict(
        zip(names, whole.run(None, {n: _wide(a) for n, a in inputs.items()}), strict=True)
    )


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def structure(model: Any) -> tuple[list[tuple], list[np.ndarray]]:
    """Operation, attributes and inputs of each node but casts, and the weights in the order of their use.

    An input is named by the node it comes from, so that equal graphs are equal whatever their tensors' names.
    """
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    origin: dict[str, Any] = {}
    nodes: list[tuple] = []
    used: list[np.ndarray] = []

    def visit(graph: Any) -> None:
        for node in graph.node:
            taken = [origin.get(name, name) for name in node.input]
            if node.op_type == "Cast":
                origin[node.output[0]] = taken[0]
                continue
            used.extend(weights[name] for name in taken if name in weights)
            sources = ["weight" if name in weights else name for name in taken]
            nodes.append((node.op_type, _attributes(node), sources))
            origin.update((name, (len(nodes), place)) for place, name in enumerate(node.output))
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    visit(attribute.g)
        nodes.append(("outputs", [], [origin[end.name] for end in graph.output]))

    visit(model.graph)
    return nodes, used


def _attributes(node: Any) -> Sequence[tuple[str, Any]]:
    value = onnx.helper.get_attribute_value
    return [(a.name, value(a)) for a in node.attribute if not a.HasField("g")]
