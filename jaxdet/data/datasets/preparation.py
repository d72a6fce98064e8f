"""Preparation of many recordings, whatever their source: worker processes, resumption and the report.

Every recording is made by one call in one worker process and renamed into place when it is complete.
Recordings that exist already and come from the same source are kept, so a killed run can be resumed and gives
the same bytes. A recording that cannot be made is one line in the report; the others are made all the same.
"""

import json
import logging
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from jaxdet import files
from jaxdet.data.events import recordings
from jaxdet.data.processes import exit_with_parent
from jaxdet.errors import InputError

SPLITS = ("train", "val", "test")

Job = TypeVar("Job")


@dataclass
class PreparationReport:
    """Result of a preparation. Its lines are sorted and do not depend on the order of work."""

    num_made: int = 0
    num_kept: int = 0
    problems: list[str] = field(default_factory=list)
    suspicious: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)  # of all recordings, by reason


def merge_reports(reports: Iterable[PreparationReport]) -> PreparationReport:
    """Sum of the reports of all shards; a problem of the source, which every shard meets, is listed once."""
    parts = list(reports)
    problems = {line for part in parts for line in part.problems}
    return PreparationReport(sum(p.num_made for p in parts), sum(p.num_kept for p in parts), sorted(problems))


def is_made(path: Path, source: Any, verify: bool) -> bool:
    """True if the recording `path` is whole and was made from `source`, its entry in info.json.

    `verify` compares checksums as well.
    """
    if not (path / "info.json").exists():
        return False
    try:
        recording = recordings.open_recording(path)
    except InputError:
        return False
    return recording.info.get("source") == source and recordings.check(path, full=verify) is None


def make_all(
    jobs: Iterable[Job],
    convert: Callable[[Job], dict[str, Any] | str],
    out: Path,
    report: PreparationReport,
    total: int,
    workers: int = 1,
) -> None:
    """Make the recordings of `jobs`, `total` in number, and add what became of them to `report`.

    `convert` gives the info of a recording, or a line that says why it could not be made. Raises InputError
    when a worker process is killed or writing to `out` fails.
    """
    progress = _Progress(total)
    try:
        for done in _results(jobs, convert, workers):
            if isinstance(done, str):
                report.problems.append(done)
            else:
                report.num_made += 1
            progress.count(0 if isinstance(done, str) else done["num_events"])
    except BrokenProcessPool as error:
        line = "a worker process was killed, perhaps because memory ran out; run again with fewer --workers"
        raise InputError(line) from error
    except OSError as error:
        raise InputError(
            f"{error.filename or out}: {error.strerror or error}; finished recordings are kept: "
            "free disk space and run again"
        ) from error


def _results(
    jobs: Iterable[Job], convert: Callable[[Job], dict[str, Any] | str], workers: int
) -> Iterator[dict[str, Any] | str]:
    """Results of the jobs in any order.

    At most two jobs per worker are taken ahead, so that an archive is not extracted far in advance.
    """
    if workers == 1:
        yield from map(convert, jobs)
        return
    context = multiprocessing.get_context("spawn")
    pool = futures.ProcessPoolExecutor(workers, context, initializer=exit_with_parent)
    try:
        running: set[futures.Future] = set()
        for job in jobs:
            running.add(pool.submit(convert, job))
            enough = len(running) >= 2 * workers
            done, running = futures.wait(running, None if enough else 0, futures.FIRST_COMPLETED)
            yield from (future.result() for future in done)
        for future in futures.as_completed(running):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Progress:
    """Progress line in the log every few seconds: recordings done, rate, time left."""

    INTERVAL_S = 5.0

    def __init__(self, total: int):
        self._total, self._done, self._events = total, 0, 0
        self._start = self._shown = time.monotonic()

    def count(self, num_events: int) -> None:
        self._done += 1
        self._events += num_events
        now = time.monotonic()
        if now - self._shown < self.INTERVAL_S and self._done < self._total:
            return
        self._shown = now
        rate = self._done / max(now - self._start, 1e-9)
        logging.info(
            "%d of %d recordings, %.3g recordings/s, %.3g M events/s, %.3g min left",
            *(self._done, self._total, rate),
            *(self._events / max(now - self._start, 1e-9) / 1e6, (self._total - self._done) / rate / 60),
        )


def made(out: Path) -> Iterator[tuple[str, recordings.Recording]]:
    """Yield all prepared recordings below `out` as (split, recording), sorted."""
    for split in SPLITS:
        for path in sorted(path.parent for path in (out / split).glob("[!.]*/info.json")):
            yield split, recordings.open_recording(path)


def finish(out: Path, report: PreparationReport) -> None:
    """Write manifest.json and report.txt for the recordings in `out`; add suspicious labels to `report`."""
    manifest = {}
    for split, recording in made(out):
        key = f"{split}/{recording.name}"
        manifest[key] = {
            k: recording.info[k] for k in ("num_events", "num_labels", "label_interval_us", "files")
        }
        odd = recording.info["suspicious"]
        if odd:
            counts = ", ".join(f"{count} {reason}" for reason, count in odd.items())
            report.suspicious.append(f"{key}: of {recording.info['num_labels']} boxes {counts}")
        for reason, count in recording.info.get("left_out", {}).items():
            report.suspicious.append(f"{key}: left out {count} {reason}")
            report.left_out[reason] = report.left_out.get(reason, 0) + count
        if not recording.info["num_labels"]:
            report.suspicious.append(f"{key}: no boxes")
    report.problems.sort()
    with files.atomic(out / "manifest.json") as temporary:
        temporary.write_text(json.dumps(files.stamped({"recordings": manifest}), indent=1) + "\n")
    with files.atomic(out / "report.txt") as temporary:
        temporary.write_text("".join(f"{line}\n" for line in [*report.problems, *report.suspicious]))
