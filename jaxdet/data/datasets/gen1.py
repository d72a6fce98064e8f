"""Preparation of GEN1: its source files, or a folder of the same layout, become prepared recordings.

Every recording is made by one call in one worker process and renamed into place when it is complete.
Recordings that exist already and come from the same source files are kept, so a killed run can be resumed and
gives the same bytes. A recording that cannot be made is one line in the report; the others are made all the
same.
"""

import json
import logging
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from jaxdet import files, folders
from jaxdet.data import archive
from jaxdet.data.datasets.gen1_sources import BOXES, EVENTS, SPLITS, SourceFiles, find_sources
from jaxdet.data.events import dat, labels, recordings
from jaxdet.data.events.streams import EventChunk
from jaxdet.data.processes import exit_with_parent
from jaxdet.errors import InputError

GEN1_SIZE = (304, 240)
START_US = 5_000  # a recording that does not begin at time 0 begins at a multiple, the step of HMNet
_EXTRACTED = "extracted files"  # in the marker of the folder for them


@dataclass(frozen=True)
class Gen1Options:
    """Settings that, with the source files, determine the bytes of a prepared recording."""

    duration_ms: int | None = 60_000  # from time 0; None: from the first event to the last event or box


Decode = Callable[[np.ndarray], EventChunk]


class RecordingJob(NamedTuple):
    """One recording to make."""

    pair: SourceFiles
    out: Path
    options: Gen1Options
    scratch: Path | None  # folder the source was extracted to, for this job only


@dataclass
class Gen1Report:
    """Result of the preparation. Its lines are sorted and do not depend on the order of work."""

    num_made: int = 0
    num_kept: int = 0
    problems: list[str] = field(default_factory=list)
    suspicious: list[str] = field(default_factory=list)


def make(
    source: Path,
    out: Path,
    options: Gen1Options,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    verify: bool = False,
) -> Gen1Report:
    """Make the recordings of `source` in `out`; call `finish` once those of all shards exist.

    `shard` (i, n) takes every n-th recording of a folder and every n-th archive from number i on; `verify`
    compares checksums of existing recordings. InputError when nothing is to prepare or the disk is full.
    """
    report = Gen1Report()
    tree, archives = find_sources(source, report.problems)
    tree, archives = tree[shard[0] :: shard[1]], archives[shard[0] :: shard[1]]
    scratch = out / f".extract-{shard[0]}-{shard[1]}"
    folders.remove_own(scratch, _EXTRACTED, _made_before)

    def is_pending(pair: SourceFiles) -> bool:
        pending = not _is_made(pair, out, options, verify)
        report.num_kept += not pending
        return pending

    if verify:
        logging.info("comparing the checksums of existing recordings")
    work = [(None, [pair for pair in tree if is_pending(pair)])]
    work += [(path, [pair for pair in pairs if is_pending(pair)]) for path, pairs in archives]
    progress = _Progress(sum(len(pairs) for _, pairs in work))

    def jobs() -> Iterator[RecordingJob]:
        for number, (path, pairs) in enumerate(work):
            if path is None:
                yield from (RecordingJob(pair, out, options, None) for pair in pairs)
            elif pairs:
                if not scratch.exists():
                    folders.begin(scratch, _EXTRACTED)
                found = _extracted(path, pairs, scratch / str(number), report.problems)
                yield from (RecordingJob(pair, out, options, scratch) for pair in found)

    try:
        for done in _results(jobs(), workers):
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
    finally:
        folders.discard(scratch, _EXTRACTED)
    return report


def merge_reports(reports: Iterable[Gen1Report]) -> Gen1Report:
    """Sum of the reports of all shards; a problem of the source, which every shard meets, is listed once."""
    parts = list(reports)
    problems = {line for part in parts for line in part.problems}
    return Gen1Report(sum(p.num_made for p in parts), sum(p.num_kept for p in parts), sorted(problems))


def _made_before(scratch: Path) -> bool:
    """True if a folder without a marker holds only files that version 0.1.0 extracted."""
    inside = [path for path in scratch.rglob("*") if path.is_symlink() or not path.is_dir()]
    return all(path.name.endswith((EVENTS, BOXES)) and not path.is_symlink() for path in inside)


def _is_made(pair: SourceFiles, out: Path, options: Gen1Options, verify: bool) -> bool:
    path = out / pair.split / pair.name
    if not (path / "info.json").exists():
        return False
    try:
        recording = recordings.open_recording(path)
    except InputError:
        return False
    wanted = _origin(pair, options)
    return recording.info.get("source") == wanted and recordings.check(path, full=verify) is None


def _origin(pair: SourceFiles, options: Gen1Options) -> dict[str, Any]:
    """Entry "source" of info.json: the recording is made again when any of it changes."""
    return {
        "events": {"file": PurePosixPath(pair.events).name, "size": pair.sizes[0]},
        "boxes": {"file": PurePosixPath(pair.boxes).name, "size": pair.sizes[1]},
        "duration_ms": options.duration_ms,
    }


def _extracted(
    path: Path, pairs: list[SourceFiles], folder: Path, problems: list[str]
) -> Iterator[SourceFiles]:
    """Yield the pairs of an archive as soon as both files of a pair are in `folder`."""
    wanted = {name for pair in pairs for name in (pair.events, pair.boxes)}
    arrived: set[str] = set()
    try:
        for member, _ in archive.extract(
            path, folder, [m for m in archive.members(path) if m.name in wanted]
        ):
            arrived.add(member.name)
            for pair in [p for p in pairs if member.name in p[2:4] and arrived.issuperset(p[2:4])]:
                yield pair._replace(events=str(folder / pair.events), boxes=str(folder / pair.boxes))
    except InputError as error:
        problems.append(str(error))


def convert(job: RecordingJob) -> dict[str, Any] | str:
    """Make one recording and return its info, or one line that says why it could not be made.

    Raises OSError only when writing fails.
    """
    pair, out, options, scratch = job
    try:
        return _convert(pair, out, options)
    except InputError as error:
        return f"{pair.split}/{pair.name}: {error}"
    finally:
        if scratch is not None:
            folders.remove_inside(scratch, _EXTRACTED, pair.events)
            folders.remove_inside(scratch, _EXTRACTED, pair.boxes)


def _convert(pair: SourceFiles, out: Path, options: Gen1Options) -> dict[str, Any]:
    records, header = dat.open_dat(pair.events)
    width, height = header.width or GEN1_SIZE[0], header.height or GEN1_SIZE[1]
    recordings.check_size(pair.events, width, height)
    boxes = dat.read_boxes(pair.boxes)
    found = labels.from_boxes(boxes, width, height)
    decoded = dat.decode_version_1 if dat.is_version_1(header) else dat.decode
    inside = _on_sensor(records, decoded, width, height)
    num_outside = int((~inside).sum())
    if num_outside:
        records = records[inside]
    t_us = records[:, 0].copy()
    was_sorted = bool((t_us[1:] >= t_us[:-1]).all())
    if not was_sorted:
        order = np.argsort(t_us, kind="stable")
        t_us, records = t_us[order], records[order]
    # Records keep their times: the start is a multiple of 1 ms, of which they store the rest.
    start_us = int(t_us[0]) // START_US * START_US if options.duration_ms is None and len(t_us) else 0
    t_us = t_us - start_us
    found, num_before = labels.counted_from(found, start_us)
    num_after = 0
    if options.duration_ms is None and len(t_us):
        found, num_after = labels.counted_until(found, int(t_us[-1]) + labels.MAX_INTERVAL_US)
    last_us = max([0, *t_us[-1:].tolist(), *found["t"][-1:].tolist()])
    duration_ms = last_us // 1000 + 1 if options.duration_ms is None else options.duration_ms
    ms_start = recordings.index(t_us, duration_ms)
    info = {
        "width": width,
        "height": height,
        "duration_ms": duration_ms,
        "start_us": start_us,
        "label_interval_us": labels.interval_us(found),
        "was_sorted": was_sorted,
        "suspicious": {
            **labels.suspicious(boxes, found, duration_ms),
            **({"before the first event, left out": num_before} if num_before else {}),
            **({"over 1 s after the last event, left out": num_after} if num_after else {}),
        },
        **({"left_out": {"events outside the sensor": num_outside}} if num_outside else {}),
        "source": _origin(pair, options),
    }
    words = _packed(records, decoded)
    return recordings.write(out / pair.split / pair.name, words, ms_start, found, info)


def _packed(records: np.ndarray, decoded: Decode) -> np.ndarray:
    """Words of the records, uint32 [N]; all lie on the sensor."""
    words = np.empty(len(records), np.uint32)
    for start in range(0, len(records), dat.CHUNK_EVENTS):
        rows = slice(start, start + dat.CHUNK_EVENTS)
        words[rows] = recordings.pack(decoded(records[rows]))
    return words


def _on_sensor(records: np.ndarray, decoded: Decode, width: int, height: int) -> np.ndarray:
    """Mask [N] of the records on the sensor, which a stray pixel of a real one is not."""
    inside = np.empty(len(records), bool)
    for start in range(0, len(records), dat.CHUNK_EVENTS):
        rows = slice(start, start + dat.CHUNK_EVENTS)
        events: EventChunk = decoded(records[rows])
        inside[rows] = (events.x < width) & (events.y < height)
    return inside


def _results(jobs: Iterator[RecordingJob], workers: int) -> Iterator[dict[str, Any] | str]:
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


def finish(out: Path, report: Gen1Report) -> None:
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
        if not recording.info["num_labels"]:
            report.suspicious.append(f"{key}: no boxes")
    report.problems.sort()
    with files.atomic(out / "manifest.json") as temporary:
        temporary.write_text(json.dumps({"recordings": manifest}, indent=1) + "\n")
    with files.atomic(out / "report.txt") as temporary:
        temporary.write_text("".join(f"{line}\n" for line in [*report.problems, *report.suspicious]))
