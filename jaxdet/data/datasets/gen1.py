"""Preparation of GEN1: its source files, or a folder of the same layout, become prepared recordings.

Recordings are made one by one, see `preparation`; archives are extracted as they are needed.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from jaxdet import folders
from jaxdet.data import archive
from jaxdet.data.datasets import preparation
from jaxdet.data.datasets.gen1_sources import BOXES, EVENTS, SourceFiles, find_sources
from jaxdet.data.datasets.preparation import PreparationReport
from jaxdet.data.events import dat, labels, recordings
from jaxdet.data.events.streams import EventChunk
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


def make(
    source: Path,
    out: Path,
    options: Gen1Options,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    verify: bool = False,
) -> PreparationReport:
    """Make the recordings of `source` in `out`; call `preparation.finish` once those of all shards exist.

    `shard` (i, n) takes every n-th recording of a folder and every n-th archive from number i on; `verify`
    compares checksums of existing recordings. InputError when nothing is to prepare or the disk is full.
    """
    report = PreparationReport()
    tree, archives = find_sources(source, report.problems)
    tree, archives = tree[shard[0] :: shard[1]], archives[shard[0] :: shard[1]]
    scratch = out / f".extract-{shard[0]}-{shard[1]}"
    folders.remove_own(scratch, _EXTRACTED, _made_before)

    def is_pending(pair: SourceFiles) -> bool:
        pending = not preparation.is_made(out / pair.split / pair.name, _origin(pair, options), verify)
        report.num_kept += not pending
        return pending

    if verify:
        logging.info("comparing the checksums of existing recordings")
    work = [(None, [pair for pair in tree if is_pending(pair)])]
    work += [(path, [pair for pair in pairs if is_pending(pair)]) for path, pairs in archives]

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
        preparation.make_all(jobs(), convert, out, report, sum(len(pairs) for _, pairs in work), workers)
    finally:
        folders.discard(scratch, _EXTRACTED)
    return report


def _made_before(scratch: Path) -> bool:
    """True if a folder without a marker holds only files that version 0.1.0 extracted."""
    inside = [path for path in scratch.rglob("*") if path.is_symlink() or not path.is_dir()]
    return all(path.name.endswith((EVENTS, BOXES)) and not path.is_symlink() for path in inside)


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
