"""Graphs under construction as functions in ONNX Runtime or OpenVINO."""

from typing import Any

import pytest

from jaxdet.exporting import graph

onnx: Any = pytest.importorskip("onnx")
onnxruntime: Any = pytest.importorskip("onnxruntime")


def model(made, inputs, outputs):
    """Bytes of a checked model; `inputs` and `outputs` map names to (element type, shape)."""

    def described(table):
        return [onnx.helper.make_tensor_value_info(n, graph.TYPES[d.name], s) for n, (d, s) in table.items()]

    weights = [onnx.numpy_helper.from_array(a, n) for n, a in made.weights.items()]
    body = onnx.helper.make_graph(made.nodes, "g", described(inputs), described(outputs), weights)
    opset = onnx.helper.make_opsetid("", 18)
    whole = onnx.helper.make_model(body, opset_imports=[opset], ir_version=9)
    onnx.checker.check_model(whole, full_check=True)
    return whole.SerializeToString()


def session(data):
    """A model in ONNX Runtime."""
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
