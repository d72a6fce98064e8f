"""Proof that an exported file computes what jaxdet does: both run on the same inputs, compared box by box."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdet.exporting.onnx_file import output_name
from jaxdet.exporting.programs import Program
from jaxdet.exporting.runtimes import Run

Arrays = Mapping[str, Any]


class Tolerance(NamedTuple):
    """Largest differences from jaxdet in float32 with which a file is kept."""

    matched: float  # least part of the boxes that agree
    pixels: float = np.inf  # of a corner that agrees, or 1e-4 of the largest coordinate if that is more
    score: float = np.inf  # of a score that agrees
    iou: float = 0.0  # least IoU of boxes that agree
    floor: float = 0.0  # score below which boxes are not looked at
    relative: float = np.inf  # of the largest raw output, and of the largest of a state after one step

    def line(self) -> str:
        """The tolerance in words."""
        parts = [f"{100 * self.matched:.4g} % of boxes"]
        if self.iou:
            parts.append(f"of score {self.floor:g} or more, IoU {self.iou:g}")
        else:
            parts += [f"{self.pixels:g} px", f"score {self.score:g}"]
            parts.append(f"{self.relative:g} of raw outputs and states")
        return ", ".join(parts)


# Rounding through about a hundred layers; see docs/export.md for measured values. In half precision boxes at
# a threshold come and go, and with 8 bits the loss of AP is what counts.
TOLERANCES = {
    "float32": Tolerance(0.995, 0.05, 1e-4, relative=5e-4),
    "float16": Tolerance(0.95, 1.0, 0.01, relative=0.02),
    "bfloat16": Tolerance(0.8, 8.0, 0.05, relative=0.1),
    "int8": Tolerance(0.5, iou=0.5, floor=0.3),
}
FLOAT32 = TOLERANCES["float32"]


@dataclass
class Comparison:
    """Results of one runtime beside those of jaxdet; boxes match by label, score and corners."""

    runtime: str
    boxes: int = 0  # of jaxdet
    found: int = 0  # of the file
    matched: int = 0
    pixels: float = 0.0  # largest difference of a matched box
    score: float = 0.0
    relative: dict[str, float] = field(default_factory=dict)  # raw outputs and states, of their largest
    drift: dict[str, float] = field(default_factory=dict)  # states of two runs that never met again
    calls: int = 0
    allowed: Tolerance = FLOAT32
    ap: float | None = None  # on the annotated images, if there are any
    ap_of_jaxdet: float | None = None

    @property
    def passed(self) -> bool:
        """All differences are within the tolerances."""
        enough = self.matched >= self.allowed.matched * max(self.boxes, self.found)
        return enough and all(value <= self.allowed.relative for value in self.relative.values())

    def as_json(self) -> dict[str, Any]:
        """Row of the table beside the file."""
        allowed = {key: value for key, value in self.allowed._asdict().items() if np.isfinite(value)}
        return {**vars(self), "allowed": allowed, "passed": self.passed}

    def line(self) -> str:
        """One line for the log."""
        parts = [f"{self.calls} calls"]
        if self.boxes or self.found:
            parts.append(
                f"{self.matched} of {self.boxes} boxes agree ({self.found} found; up to "
                f"{self.pixels:.2g} px, score {self.score:.2g})"
            )
        else:
            parts.append("no boxes to compare")
        parts += [f"{name} {value:.2g}" for name, value in self.relative.items() if name != "steps"]
        if self.ap is not None and self.ap_of_jaxdet is not None:
            parts.append(f"AP {self.ap:.4f}, that of jaxdet {self.ap_of_jaxdet:.4f}")
        return f"{self.runtime}: " + ", ".join(parts)


def match(reference: Arrays, found: Arrays, allowed: Tolerance = FLOAT32) -> tuple[int, float, float]:
    """Number of boxes that agree one to one, and their largest differences in pixels and score."""
    boxes, scores, labels = (np.asarray(found[name]) for name in ("boxes", "scores", "labels"))
    free = np.ones(len(scores), bool)
    count, pixels, most = 0, 0.0, 0.0
    for box, score, label in zip(reference["boxes"], reference["scores"], reference["labels"], strict=True):
        # A side of thousands of pixels is rounded more coarsely.
        near = max(allowed.pixels, 1e-4 * float(np.abs(box).max()))
        distance = np.abs(boxes - box).max(1, initial=0)
        apart = np.abs(scores - score)
        fits = free & (labels == label) & (distance <= near) & (apart <= allowed.score)
        fits &= _iou(box, boxes) >= allowed.iou
        if not fits.any():
            continue
        best = int(np.argmin(np.where(fits, distance, np.inf)))
        free[best] = False
        count, pixels, most = count + 1, max(pixels, float(distance[best])), max(most, float(apart[best]))
    return count, pixels, most


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of a box with each of the boxes [N, 4]."""
    box, boxes = box.astype(np.float64), boxes.astype(np.float64)  # areas of untrained weights pass float32
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = sides.clip(0).prod(1)
    area = lambda b: (b[..., 2:] - b[..., :2]).prod(-1)  # noqa: E731
    return common / np.maximum(area(box) + area(boxes) - common, 1e-9)


def run(
    program: Program,
    raw: bool,
    name: str,
    exported: Run,
    inputs: Iterable[Arrays],
    names_differ: bool,
    allowed: Tolerance = FLOAT32,
) -> Comparison:
    """Comparison of one runtime over inputs; `names_differ`: new states have names of their own.

    Each call of jaxdet starts from the state that the file carried there, so that differences are those of
    one step; `drift` is the distance from jaxdet's own run at the end.
    """
    result = Comparison(name, allowed=allowed)
    reference = jax.jit(program.raw if raw else program.detect)
    state = {key: np.zeros(program.inputs[key].shape, program.inputs[key].dtype) for key in program.state}
    alone: dict[str, Any] = dict(state)
    for given in inputs:
        got = exported({**given, **state})
        want = {key: np.asarray(a) for key, a in reference({**given, **state}).items()}
        if program.state:
            own = reference({**given, **alone})
            alone = {key: own[key] for key in program.state}
            state = {
                key: got[output_name(key, program.state) if names_differ else key] for key in program.state
            }
        _add(result, program, want, {**got, **state}, raw)
    for key in program.state:
        result.drift[key] = _relative(np.asarray(alone[key]), state[key])
    return result


def _add(result: Comparison, program: Program, want: Arrays, got: Arrays, raw: bool) -> None:
    result.calls += 1
    for key in want if raw else program.state:
        result.relative[key] = max(result.relative.get(key, 0.0), _relative(want[key], got[key]))
    if raw:
        return
    for image in range(len(want["count"])):
        mine, theirs = rows(want, image), rows(got, image)
        # Also a box below the floor may be the partner of one above it.
        certain = mine["scores"] >= result.allowed.floor
        mine = {name: a[certain] for name, a in mine.items()}
        count, pixels, score = match(mine, theirs, result.allowed)
        result.boxes += len(mine["scores"])
        result.found += int((theirs["scores"] >= result.allowed.floor).sum())
        result.matched += count
        result.pixels, result.score = max(result.pixels, pixels), max(result.score, score)


def rows(arrays: Arrays, image: int) -> dict[str, np.ndarray]:
    """Boxes of one image, out of padded arrays or as ONNX gives them."""
    names = ("boxes", "scores", "labels")
    if "image" in arrays:
        of_image = arrays["image"] == image
        return {name: arrays[name][of_image] for name in names}
    if "count" not in arrays or arrays["scores"].ndim == 1:
        return {name: np.asarray(arrays[name]) for name in names}
    count = int(arrays["count"][image])
    return {name: np.asarray(arrays[name])[image, :count] for name in names}


def _relative(want: np.ndarray, got: np.ndarray) -> float:
    return float(np.abs(want - got).max() / max(float(np.abs(want).max()), 1e-30))
