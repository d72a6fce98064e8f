"""Proof that an exported file computes what jaxdet does: both run on the same inputs, compared box by box."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxdet.exporting.onnx_file import output_name
from jaxdet.exporting.programs import Program
from jaxdet.exporting.runtimes import Run

# Float32 rounding through about a hundred layers; see docs/export.md for measured values.
PIXELS = 0.05
SCORE = 1e-4
MATCHED = 0.995
RELATIVE = 5e-4  # of the largest raw output, and of the largest of a state after one step

Arrays = Mapping[str, Any]


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

    @property
    def passed(self) -> bool:
        """All differences are within the tolerances."""
        enough = self.matched >= MATCHED * max(self.boxes, self.found)
        return enough and all(value <= RELATIVE for value in self.relative.values())

    def as_json(self) -> dict[str, Any]:
        """Row of the table beside the file."""
        return {**vars(self), "passed": self.passed}

    def line(self) -> str:
        """One line for the log."""
        parts = [f"{self.calls} calls"]
        if self.boxes or self.found:
            parts.append(
                f"{self.matched} of {self.boxes} boxes equal ({self.found} found; up to "
                f"{self.pixels:.2g} px, score {self.score:.2g})"
            )
        else:
            parts.append("no boxes to compare")
        parts += [f"{name} {value:.2g}" for name, value in self.relative.items() if name != "steps"]
        return f"{self.runtime}: " + ", ".join(parts)


def match(reference: Arrays, found: Arrays) -> tuple[int, float, float]:
    """Number of boxes that agree one to one, and their largest differences in pixels and score."""
    boxes, scores, labels = (np.asarray(found[name]) for name in ("boxes", "scores", "labels"))
    free = np.ones(len(scores), bool)
    count, pixels, most = 0, 0.0, 0.0
    for box, score, label in zip(reference["boxes"], reference["scores"], reference["labels"], strict=True):
        # A side of thousands of pixels is rounded more coarsely.
        allowed = max(PIXELS, 1e-4 * float(np.abs(box).max()))
        distance = np.abs(boxes - box).max(1, initial=0)
        apart = np.abs(scores - score)
        fits = free & (labels == label) & (distance <= allowed) & (apart <= SCORE)
        if not fits.any():
            continue
        best = int(np.argmin(np.where(fits, distance, np.inf)))
        free[best] = False
        count, pixels, most = count + 1, max(pixels, float(distance[best])), max(most, float(apart[best]))
    return count, pixels, most


def run(program: Program, raw: bool, name: str, exported: Run, inputs: Iterable[Arrays], names_differ: bool):
    """Comparison of one runtime over inputs; `names_differ`: new states have names of their own.

    Each call of jaxdet starts from the state that the file carried there, so that differences are those of
    one step; `drift` is the distance from jaxdet's own run at the end.
    """
    result = Comparison(name)
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
        mine, theirs = _rows(want, image), _rows(got, image)
        count, pixels, score = match(mine, theirs)
        result.boxes, result.found = result.boxes + len(mine["scores"]), result.found + len(theirs["scores"])
        result.matched += count
        result.pixels, result.score = max(result.pixels, pixels), max(result.score, score)


def _rows(arrays: Arrays, image: int) -> dict[str, np.ndarray]:
    """Boxes of one image, out of padded arrays or as ONNX gives them."""
    names = ("boxes", "scores", "labels")
    if "count" not in arrays or arrays["scores"].ndim == 1:
        return {name: np.asarray(arrays[name]) for name in names}
    count = int(arrays["count"][image])
    return {name: np.asarray(arrays[name])[image, :count] for name in names}


def _relative(want: np.ndarray, got: np.ndarray) -> float:
    return float(np.abs(want - got).max() / max(float(np.abs(want).max()), 1e-30))
