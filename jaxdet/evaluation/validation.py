"""Evaluation during training: one line per evaluation, and the best weights kept."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxdet import distributed
from jaxdet.evaluation.metrics import Metrics
from jaxdet.evaluation.splits import Measure
from jaxdet.files import atomic
from jaxdet.formats.text import read_json_lines
from jaxdet.nn.functional import Variables
from jaxdet.weights import checkpoint, stored_config

logger = logging.getLogger(__name__)


class Validation:
    """Evaluates the weights of a step with `measure`, records their metrics and keeps the best weights.

    Every process calls it; process 0 writes `<workdir>/validation.jsonl` and the weights of the highest
    fitness as `<workdir>/best`. `start` is the step at which a run resumes: lines of later steps, left by a
    killed run, are dropped. `report` takes the metrics of each step.
    """

    def __init__(
        self,
        workdir: Path,
        measure: Measure,
        config: dict[str, Any],
        start: int = 0,
        report: Callable[[int, Metrics], None] = lambda step, metrics: None,
    ):
        self._report = report
        self._workdir, self._measure, self._config = workdir, measure, config
        self._lines = [line for line in read(workdir) if line["step"] <= start]
        if distributed.is_main():
            self._write()

    def __call__(self, step: int, variables: Variables) -> None:
        began = time.perf_counter()
        metrics, fitness = self._measure(variables)
        if not distributed.is_main():
            return
        ap, ap50 = (float(value) for value in metrics.statistics[:2])
        if not self._lines or fitness > max(line.get("fitness", line["AP"]) for line in self._lines):
            checkpoint.save_weights(self._workdir / "best", variables, self._config)
        epoch = stored_config.epoch_of(self._config, step)
        self._lines.append({"step": step, "epoch": epoch, "AP": ap, "AP50": ap50, "fitness": fitness})
        self._write()
        self._report(step, metrics)
        took_s = time.perf_counter() - began
        logger.info("epoch %.4g  step %d  AP %.4f  AP50 %.4f  (%.1f s)", epoch, step, ap, ap50, took_s)

    def _write(self) -> None:
        with atomic(self._workdir / "validation.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in self._lines))


def read(workdir: Path) -> list[dict[str, float]]:
    """Lines of `validation.jsonl` of a run, in order; none if there is no such file."""
    path = workdir / "validation.jsonl"
    return read_json_lines(path, "the evaluations of a run") if path.exists() else []
