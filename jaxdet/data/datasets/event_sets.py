"""Sets of prepared recordings from any source: made, checked, and described for the config `events`.

<out>/<split>/<recording>/   see `events.recordings`
<out>/manifest.json, report.txt   see `preparation`
<out>/dataset.json   classes, sensor, label rate and loads, from which `configs/events.py` makes a config
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdet import files
from jaxdet.data.datasets import preparation
from jaxdet.data.datasets.preparation import PreparationReport
from jaxdet.data.events import conversion
from jaxdet.data.events.conversion import ConversionJob, ConversionOptions
from jaxdet.data.events.label_files import RecordingLabels
from jaxdet.data.events.recordings import Recording
from jaxdet.errors import InputError
from jaxdet.formats.text import read_json
from jaxdet.structs import ReadReport

DESCRIPTION = "dataset.json"
MAX_CLASSES = 255


class EventSource(NamedTuple):
    """Files of one recording of a set, and its labels, which are read when they are needed."""

    split: str
    name: str
    events: tuple[Path, ...]  # files that follow each other
    labels: Callable[[ReadReport], RecordingLabels]


class FoundSources(NamedTuple):
    """The recordings of a set, sorted, and lines on what was not found or left out."""

    sources: list[EventSource]
    problems: list[str]
    notes: list[str]  # that are no reason for an error status


def make(
    found: FoundSources,
    out: Path,
    num_classes: int,
    options: ConversionOptions,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    verify: bool = False,
) -> PreparationReport:
    """Make the recordings of `found` in `out`; call `finish` once those of all shards exist.

    `shard` (i, n) takes every n-th recording from number i on; `verify` compares checksums of existing ones.
    InputError when there is nothing to prepare, a recording lies in another split already, or the disk is
    full.
    """
    if not found.sources:
        reason = f": {found.problems[0]}" if found.problems else ""
        raise InputError(f"no recording with labels found{reason}; check the folders of data and labels")
    if num_classes > MAX_CLASSES:
        raise InputError(f"{num_classes} classes, a prepared recording numbers at most {MAX_CLASSES}")
    _check_splits(found.sources, out)
    report = PreparationReport(problems=list(found.problems))
    pending = []
    for source in found.sources[shard[0] :: shard[1]]:
        try:
            job = _job(source, out, num_classes, options)
        except InputError as error:
            report.problems.append(f"{source.split}/{source.name}: {error}")
            continue
        if preparation.is_made(job.path, job.source, verify):
            report.num_kept += 1
        else:
            pending.append(source)
    jobs = (_job(source, out, num_classes, options) for source in pending)
    preparation.make_all(jobs, conversion.convert, out, report, len(pending), workers)
    return report


def _check_splits(sources: Sequence[EventSource], out: Path) -> None:
    """Raise InputError if an earlier run put a recording of `sources` into another split of `out`.

    It would be trained on and measured.
    """
    planned: dict[str, set[str]] = {}
    for source in sources:
        planned.setdefault(source.name, set()).add(source.split)
    for split in preparation.SPLITS:
        for path in sorted(path.parent for path in (out / split).glob("[!.]*/info.json")):
            now = planned.get(path.name, {split})
            if split not in now:
                raise InputError(
                    f"{path} is of an earlier run, and {path.name} is of {' and '.join(sorted(now))} now; "
                    "a recording in two splits spoils what is measured: choose another --out, or remove it"
                )


def _job(source: EventSource, out: Path, num_classes: int, options: ConversionOptions) -> ConversionJob:
    report = ReadReport()
    found = source.labels(report)
    digest = hashlib.sha256(found.rows.tobytes() + found.times_us.tobytes()).hexdigest()
    origin = conversion.origin(source.events, digest, options)
    left_out = dict(report.counts)
    return ConversionJob(
        source.events, found, out / source.split / source.name, options, num_classes, left_out, origin
    )


def finish(
    out: Path, report: PreparationReport, name: str, classes: Sequence[str], notes: Sequence[str] = ()
) -> None:
    """Write manifest, report (with `notes`) and description of the set `name` in `out`; log what it holds."""
    report.suspicious += notes
    preparation.finish(out, report)
    description = describe(out, name, classes)
    with files.atomic(out / DESCRIPTION) as temporary:
        temporary.write_text(json.dumps(files.stamped(description), indent=1) + "\n")
    for split, content in description["splits"].items():
        counts = ", ".join(f"{count} {label}" for label, count in content["labels"].items())
        size = f"{content['recordings']} recordings, {content['duration_s']:.3g} s"
        logging.info("%s: %s, labels: %s", split, size, counts or "none")


def describe(out: Path, name: str, classes: Sequence[str]) -> dict[str, Any]:
    """Description of the prepared recordings below `out`.

    Label rate and loads are those of the training split, or of all recordings where there is none. InputError
    for recordings of several sizes, and for those that `prepare gen1` made.
    """
    splits: dict[str, dict[str, Any]] = {}
    sizes: dict[tuple[int, int], str] = {}
    found: dict[str, list[Recording]] = {}
    for split, recording in preparation.made(out):
        if "load" not in recording.info:
            raise InputError(
                f"{recording.path}: of `prepare gen1`, expected recordings of this set alone; "
                "choose another --out, or remove it"
            )
        sizes.setdefault((recording.width, recording.height), f"{split}/{recording.name}")
        _count(
            splits.setdefault(split, {"recordings": 0, "duration_s": 0.0, "labels": {}}), recording, classes
        )
        found.setdefault(split, []).append(recording)
    if len(sizes) > 1:
        found_sizes = ", ".join(f"{w}x{h} ({where})" for (w, h), where in sizes.items())
        raise InputError(f"{out}: sensors of {found_sizes}; expected one size: prepare them apart")
    if not sizes:
        raise InputError(f"{out}: no recording was made; the problems are in report.txt")
    ((width, height),) = sizes
    everything = [recording for of_split in found.values() for recording in of_split]
    used = found.get("train", everything)
    loads = [recording.info["load"] for recording in used]
    return {
        "name": name,
        "classes": list(classes),
        "width": width,
        "height": height,
        "label_interval_us": int(np.median([recording.label_interval_us for recording in used])),
        "most_boxes": max(int(recording.info["most_boxes"]) for recording in everything),
        "most_labelled_times_in_200_ms": max(_slots(recording.labels["t"], 200_000) for recording in used),
        "load": {
            length: np.max([load[length] for load in loads], 0).tolist() for length in loads[0]
        },
        "splits": splits,
    }  # fmt: skip


def _count(content: dict[str, Any], recording: Recording, classes: Sequence[str]) -> None:
    """Add a recording to what the description says of its split."""
    content["recordings"] += 1
    content["duration_s"] = round(content["duration_s"] + recording.duration_ms / 1000, 3)
    counts = Counter(recording.labels["class_id"].tolist())
    for index, label in enumerate(classes):
        content["labels"][label] = content["labels"].get(label, 0) + counts[index]


def _slots(t_us: np.ndarray, window_us: int) -> int:
    """Most labelled times in a window."""
    times = np.unique(t_us.astype(np.int64))
    return int((np.searchsorted(times, times + window_us) - np.arange(len(times))).max(initial=1))


def read_description(root: str | Path) -> dict[str, Any]:
    """Description of the prepared set in `root`; InputError if there is none."""
    path = Path(root, DESCRIPTION)
    content = read_json(path, "a prepared set; run `prepare events --out` or give its folder")
    wanted = {"classes": list, "width": int, "height": int, "label_interval_us": int, "most_boxes": int,
              "most_labelled_times_in_200_ms": int, "load": dict}  # fmt: skip
    wrong = [key for key, kind in wanted.items() if not isinstance(content, dict)
             or not isinstance(content.get(key), kind)]  # fmt: skip
    if wrong:
        raise InputError(f"{path}: no {wrong[0]}; expected the file that `prepare` wrote: prepare again")
    files.check_version(content, path)
    return content


def buckets(description: dict[str, Any], segment_ms: int) -> tuple[int, ...]:
    """Padded numbers of events for segments: for the median one, the 99th percentile and the fullest."""
    known = {int(length): load for length, load in description["load"].items()}
    length = min((n for n in known if n >= segment_ms), default=max(known))
    # The streams of an evaluation take up to 400 ms at once.
    most = max(known[max(length, 400)][2], known[length][2])
    return tuple(sorted({_rounded(value, 1024) for value in (*known[length][:2], most)}))


def step_sizes(description: dict[str, Any]) -> tuple[int, ...]:
    """Numbers of events that a step reads at most: for the median step, the 99th percentile, the fullest."""
    return tuple(sorted({_rounded(value, 128) for value in description["load"]["5"]}))


def _rounded(value: int, unit: int) -> int:
    """`value` rounded up to a multiple of `unit`, and to three binary digits: near sizes share a program."""
    step = max(unit, 1 << max(int(value).bit_length() - 3, 0))
    return max(-(-int(value) // step), 1) * step
