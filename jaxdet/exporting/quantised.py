"""Static quantisation of an ONNX file of images to 8 bits, by the ranges of values on given images."""

import importlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet.exporting.graph import onnx


class _Calibration:
    """Inputs one after the other, as the quantiser asks for them."""

    def __init__(self, inputs: Iterable[dict[str, np.ndarray]]):
        self._inputs: Iterator[dict[str, np.ndarray]] = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._inputs, None)


def quantise(path: Path, inputs: Iterable[dict[str, np.ndarray]]) -> None:
    """Put the convolutions of a file into 8 bits, whose ranges are those of the inputs.

    Weights have a scale for each channel. They are unsigned: on processors without VNNI, ONNX Runtime adds
    products with signed ones in 16 bits, which overflow, so that boxes would depend on the machine. The last
    convolutions of the head stay in float32: their outputs are coordinates and logits. Metadata are kept.
    """
    package: Any = importlib.import_module("onnxruntime.quantization")
    model = onnx().load(str(path))
    with _without_advice():
        package.quantize_static(
            str(path),
            str(path),
            _Calibration(inputs),
            quant_format=package.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=_predictions(model.graph),
            per_channel=True,
            activation_type=package.QuantType.QUInt8,
            weight_type=package.QuantType.QUInt8,
        )
    made = onnx().load(str(path))
    onnx().helper.set_model_props(made, {p.key: p.value for p in model.metadata_props})
    path.write_bytes(made.SerializeToString())


@contextmanager
def _without_advice() -> Iterator[None]:
    """The quantiser recommends another tool at every call; what that does is done already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _predictions(graph: Any) -> list[str]:
    """Names of the convolutions that no other convolution follows."""
    makes = {output: node for node in graph.node for output in node.output}
    followed: set[str] = set()
    waiting = [name for node in graph.node if node.op_type == "Conv" for name in node.input]
    while waiting:
        node = makes.get(waiting.pop())
        if node is not None and node.name not in followed:
            followed.add(node.name)
            waiting += node.input
    return [n.name for n in graph.node if n.op_type == "Conv" and n.name not in followed]
