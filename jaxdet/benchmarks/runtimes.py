"""jaxdet beside the runtimes that take its exported file, on the same inputs, in turn."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdet.exporting import inputs, onnx_file, runtimes, write
from jaxdet.exporting.programs import Program
from jaxdet.models import from_config
from jaxdet.nn.functional import Skeleton, Variables

Work = Callable[[], Any]
_STEPS = 9  # whole cycles of the published models


def measure(
    cfg: Any, skeleton: Skeleton, variables: Variables, num_events: int, pairs: int, peers: dict[str, Path]
) -> dict[str, Any]:
    """Times in ms of an image, or of a step of a recording, with suppression, and ratios to jaxdet's.

    The detector is exported to ONNX and runs in ONNX Runtime, and in OpenVINO where that is installed; all
    run in turn, `pairs` times, on simulated inputs, and ratios are medians of those of each turn. `peers` are
    further ONNX files by a name, of one input, that run in the same turns. Raises InputError if the extra
    `export` is not there.
    """
    runtimes.need("onnx", "onnxruntime")
    program = write.program(cfg, skeleton, variables, num_events)
    given = _given(cfg, program, num_events)
    work = {"jaxdet": _rounds(program, given, _own(program))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx_file.write(path, program, False, {})
        for name, run in runtimes.open_file(path).items():
            work[name] = _rounds(program, given, run)
        for name, file in peers.items():
            for runtime, run in runtimes.open_file(file).items():
                work[f"{name} in {runtime}"] = lambda run=run: [run(one) for one in given]
        return _report(_in_turn(work, pairs), len(given))


def _given(cfg: Any, program: Program, num_events: int) -> list[dict[str, np.ndarray]]:
    if not program.state:
        return [{"images": a} for a in inputs.images(cfg.data, write.image_size(cfg), None)]
    steps = inputs.steps(from_config.geometry(cfg), num_events, None)
    return [step for step, _ in zip(steps, range(_STEPS), strict=False)]


def _own(program: Program) -> runtimes.Run:
    jitted = jax.jit(program.detect)
    return lambda given: {name: np.asarray(a) for name, a in jitted(given).items()}


def _rounds(program: Program, given: list[dict[str, np.ndarray]], run: runtimes.Run) -> Work:
    """All inputs, one after another, with the state carried."""

    def work():
        state = {key: np.zeros(program.inputs[key].shape, program.inputs[key].dtype) for key in program.state}
        for one in given:
            found = run({**one, **state})
            state = {key: found[f"new_{key}" if f"new_{key}" in found else key] for key in program.state}

    return work


def _in_turn(work: dict[str, Work], pairs: int) -> dict[str, np.ndarray]:
    """Seconds of every turn, after one that compiles."""
    seconds = {name: np.zeros(pairs) for name in work}
    for one in work.values():
        one()
    for turn in range(pairs):
        for name, one in work.items():
            begin = time.perf_counter()
            one()
            seconds[name][turn] = time.perf_counter() - begin
    return seconds


def _report(seconds: dict[str, np.ndarray], calls: int) -> dict[str, Any]:
    own = seconds["jaxdet"]
    return {
        name: {
            "ms": round(1e3 * float(np.median(took)) / calls, 3),
            "ratio_to_jaxdet": round(float(np.median(took / own)), 3),
        }
        for name, took in seconds.items()
    }
