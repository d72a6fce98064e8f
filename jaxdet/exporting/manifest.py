"""Description of an exported file, as JSON beside it and, in ONNX, inside it."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxdet.exporting.onnx_file import output_name
from jaxdet.exporting.programs import Program
from jaxdet.files import VERSION_KEY

KEY = "jaxdet"  # of the metadata of an ONNX file
_MEANING = {
    "images": "pixels 0..255, channels first, at the network's size",
    "xy": "column and row of each event in pixels, sorted by cell, padded with zeros",
    "t_us": "microseconds since the step began",
    "polarity": "0 or 1",
    "count": "number of real events",
    "steps": "steps since the recording began",
}


def of(program: Program, cfg: Any, raw: bool, is_onnx: bool, licence: str, version: str) -> dict[str, Any]:
    """Manifest of a program: names, shapes and types of its inputs and outputs, and what they mean."""
    model, data = cfg.model, cfg.data
    described: dict[str, Any] = {
        VERSION_KEY: 1,
        "jaxdet": version,
        "format": "onnx" if is_onnx else "stablehlo",
        "family": model.name,
        "classes": list(data.classes),
        "weights_licence": licence,
        "inputs": [_row(name, s, _MEANING.get(name, "state")) for name, s in program.inputs.items()],
        "outputs": "raw outputs of the head" if raw else _outputs(program, is_onnx),
    }
    if program.state:
        names = {name: output_name(name, program.state) if is_onnx else name for name in program.state}
        described["state"] = names
        described["order"] = (
            "one call a step; each input of `state` takes the output named beside it from the call before, "
            "zeros at the first"
        )
        described["sensor"] = {"height": int(data.height), "width": int(data.width)}
        described["step_us"] = int(data.get("step_us", 5000))
        described["cell_pixels"] = int(model.get("window", 4))
    else:
        described["placement"] = data.placement
        described["channels"] = "RGB" if data.placement == "yolov4" else "BGR"
    if not raw:
        described["min_score"], described["nms_iou"] = (
            float(program.rule.min_score),
            float(program.rule.nms_iou),
        )
    return described


def beside(path: Path) -> Path:
    """Name of the JSON of an exported file."""
    return path.with_name(path.name + ".json")


def _row(name: str, of: Any, meaning: str) -> dict[str, Any]:
    shape = [n if isinstance(n, int) else str(n) for n in of.shape]
    return {"name": name, "shape": shape, "type": np.dtype(of.dtype).name, "meaning": meaning}


def _outputs(program: Program, is_onnx: bool) -> str:
    if is_onnx and next(iter(program.inputs.values())).shape[0] != 1:
        return (
            "boxes [N, 4] xyxy in network pixels, scores [N], labels [N], image [N]: the image of each box, "
            "from 0; image by image, best first"
        )
    if is_onnx:
        return "boxes [N, 4] xyxy in network pixels, scores [N], labels [N], best first"
    return (
        "boxes [B, D, 4] xyxy in network pixels, scores, labels [B, D], best first; the first `count` [B] "
        "are real"
    )
