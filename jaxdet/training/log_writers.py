"""Writers of a run's log: console, the released CSV columns, JSON lines, and trackers of others."""

import csv
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from jaxdet import distributed, terminal
from jaxdet.files import atomic, stamped
from jaxdet.formats.text import read_json_lines
from jaxdet.structs import ReadReport
from jaxdet.training import trackers

logger = logging.getLogger(__name__)

Values = Mapping[str, float]


class LogWriter(Protocol):
    """Takes the values of a step. `close` flushes."""

    def write(self, step: int, values: Values) -> None: ...

    def close(self) -> None: ...


class RunningMean:
    """Exponentially weighted mean since the start: sum(m^j v) / sum(m^j), newest value first."""

    def __init__(self, memory: float, total: float = 0.0, weight: float = 0.0):
        self.memory, self.total, self.weight = memory, total, weight

    def add(self, value: float) -> float:
        """Take a value, return the mean."""
        self.total = self.total * self.memory + value
        self.weight = self.weight * self.memory + 1.0
        return self.total / self.weight


class CsvWriter:
    """The released training log: `Epoch,Iter,Loss,DataTime,BatchTime,loss_*...,LR0,LR1`, numbers as `%f`."""

    COLUMNS = ("Epoch", "Iter", "Loss", "DataTime", "BatchTime")

    def __init__(self, path: Path, columns: Sequence[str]):
        self.columns = (*self.COLUMNS, *columns)
        new = not path.exists() or path.stat().st_size == 0
        self.file = open(path, "a", newline="")
        self.rows = csv.writer(self.file, lineterminator="\n")
        if new:
            self.rows.writerow(self.columns)

    def write(self, step: int, values: Values) -> None:
        row = [values.get(c, 0) for c in self.columns]
        self.rows.writerow([f"{v:d}" if isinstance(v, int) else f"{v:f}" for v in row])
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class JsonlWriter:
    """One JSON object per line, with the step and the wall-clock time in seconds."""

    def __init__(self, path: Path):
        self.file = open(path, "a")

    def write(self, step: int, values: Values) -> None:
        self.file.write(json.dumps({"step": step, "time_s": round(time.time(), 3), **values}) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class ConsoleWriter:
    """A line with epoch, step, loss, parts, rate and time left; a terminal has a bar instead."""

    def __init__(self, stop: int, num_epochs: int):
        self.stop, self.num_epochs = stop, num_epochs

    def write(self, step: int, values: Values) -> None:
        if terminal.is_terminal(sys.stderr):
            return
        per_step = values["BatchTime"]
        parts = " ".join(
            f"{k.removeprefix('loss_')} {v:.3f}" for k, v in values.items() if k.startswith("loss_")
        )
        waiting = 100 * values["DataTime"] / max(per_step, 1e-9)
        where = f"epoch {values['Epoch']}/{self.num_epochs}  step {step}/{self.stop}"
        logger.info(
            "%s  loss %.4f (%s)  lr %.2e  %.2f steps/s  waiting for data %.0f%%  left %s",
            where,
            values["Loss"],
            parts,
            values["LR0"],
            1 / max(per_step, 1e-9),
            waiting,
            terminal.duration(per_step * (self.stop - step)),
        )

    def close(self) -> None:
        pass


def open_all(
    workdir: Path,
    loss_names: Sequence[str],
    stop: int,
    num_epochs: int,
    start: int,
    config: Mapping[str, Any],
) -> list[LogWriter]:
    """The writers of a run: console, `train.csv`, `train.jsonl` and the trackers that `config` names.

    `stop` is the last step, `num_epochs` the number of epochs up to it. Lines of steps after `start`, which a
    killed run wrote after its last checkpoint, are dropped. Of several processes only process 0 has writers.
    """
    if not distributed.is_main():
        return []
    _trim(workdir / "train.jsonl", start)
    columns = [*loss_names, "LR0", "LR1"]
    _rebuild_csv(workdir, columns)
    return [
        ConsoleWriter(stop, num_epochs),
        CsvWriter(workdir / "train.csv", columns),
        JsonlWriter(workdir / "train.jsonl"),
        *trackers.open_chosen(workdir, config),
    ]


def read_log(workdir: Path) -> list[dict[str, float]]:
    """The lines of a run's `train.jsonl`; a last line that a kill cut short is left out."""
    path = workdir / "train.jsonl"
    return read_json_lines(path, "the log of a run") if path.exists() else []


def write_left_out(workdir: Path, opened: ReadReport, dropped: Mapping[str, int]) -> None:
    """Say what a run left out, and store it as `left_out.json` with what was converted.

    `opened` counts what was left out when the data set was opened, `dropped` what batches had to leave out.
    """
    report = ReadReport({name: count for name, count in dropped.items() if count})
    for name, count in report.counts.items():
        logger.warning("left out while reading: %d %s", count, name)
    report.merge(opened)
    if distributed.is_main():
        content = stamped({"left_out": dict(report.counts), "converted": dict(report.notes)})
        with atomic(workdir / "left_out.json") as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")


def keep_mean(workdir: Path, step: int, mean: Mapping[str, float]) -> None:
    """Store the running mean of the loss at a checkpoint, so that a resumed run logs the same values."""
    if distributed.is_main():
        kept = _means(workdir) | {str(step): dict(mean)}
        with atomic(workdir / _MEANS) as temporary:
            temporary.write_text(json.dumps(kept))


def read_mean(workdir: Path, step: int) -> dict[str, float] | None:
    """The running mean that `keep_mean` stored at `step`; None, with a line in the log, if it did not."""
    found = _means(workdir).get(str(step))
    if found is None:
        logger.info("%s: no running mean of step %d; the column Loss begins anew", workdir / _MEANS, step)
    return found


def _means(workdir: Path) -> dict[str, dict[str, float]]:
    try:
        content = json.loads((workdir / _MEANS).read_text(encoding="utf-8"))
        return {str(int(step)): {k: float(mean[k]) for k in _MEAN_KEYS} for step, mean in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


_MEANS, _MEAN_KEYS = "running_mean.json", ("epoch", "total", "weight")


def _trim(path: Path, last_step: int) -> None:
    kept = [line for line in read_log(path.parent) if line["step"] <= last_step]
    if path.exists():
        with atomic(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))


def _rebuild_csv(workdir: Path, columns: Sequence[str]) -> None:
    """Write the table again from the lines that were kept."""
    with atomic(workdir / "train.csv") as temporary:
        writer = CsvWriter(temporary, columns)
        for line in read_log(workdir):
            writer.write(int(line["step"]), line)
        writer.close()
