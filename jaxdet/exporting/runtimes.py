"""Exported files run: ONNX in ONNX Runtime and OpenVINO, StableHLO in JAX."""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet.errors import InputError
from jaxdet.exporting import stablehlo_file

Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def need(*names: str) -> None:
    """Raise InputError if one of these packages of the extra is missing."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} is not installed; pip install 'jaxdet[export]'")


def open_file(path: Path) -> dict[str, Run]:
    """Functions from inputs to outputs by name of the runtime, of those that are installed."""
    if path.suffix == ".stablehlo":
        return {"jax": _jax(path)}
    runs = {"onnxruntime": onnxruntime(path)}
    if find_spec("openvino") is not None:
        runs["openvino"] = openvino(path)
    return runs


def _jax(path: Path) -> Run:
    function = stablehlo_file.read(path)
    return lambda inputs: {name: np.asarray(a) for name, a in function(inputs).items()}


def onnxruntime(path: Path, threads: int = 0) -> Run:
    """An ONNX file in ONNX Runtime on CPU; 0 threads leave the number to it."""
    package: Any = importlib.import_module("onnxruntime")
    options = package.SessionOptions()
    options.intra_op_num_threads = threads
    session = package.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, inputs), strict=True))


def openvino(path: Path) -> Run:
    """An ONNX file in OpenVINO on CPU."""
    package: Any = importlib.import_module("openvino")
    onnx: Any = importlib.import_module("onnx")
    compiled = package.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    # Outputs keep their order, but not all of them their names.
    names = [output.name for output in onnx.load(str(path), load_external_data=False).graph.output]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = compiled(inputs)
        return {name: np.array(found[i]) for i, name in enumerate(names)}

    return run
