"""Reproduction of a challenge track: predict, post-process and join month by month; a stopped run is resumed.

All inputs are checked before anything is computed. Predictions are stored by month and recording day, results
by month, under a hash of what they depend on: the row's settings, the weights and the names and sizes of the
frames. Files are written atomically, and the submission is always made from them, so that a run that was
killed and resumed ends with the same bytes.
"""

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from jaxdet.challenges import recipes, submission
from jaxdet.challenges.recipes import Row
from jaxdet.detections import files, store
from jaxdet.errors import InputError
from jaxdet.evaluation import months
from jaxdet.files import sha256
from jaxdet.formats import BoxFile, names, pickle
from jaxdet.structs import Boxes, ReadReport
from jaxdet.viewing import plots

# Images -> their detections in pixels of the image, in the same order, with the size of the image.
Detect = Callable[[Sequence[Path]], Iterator[Boxes]]
# (row, weights) -> a detector that is ready to run
Load = Callable[[Row, Path], Detect]

_VERSION = 1  # to be raised when predictions or results of the same inputs change
_SUFFIXES = ("", ".pt", ".pth")


class Part(NamedTuple):
    """The frames of one month and recording day."""

    day: str
    frames: dict[str, Path]  # key -> image, sorted
    data_hash: str


class Month(NamedTuple):
    """Inputs of one month: its row of the recipe, weights, frames and labels."""

    name: str
    row: Row
    weights: Path
    parts: list[Part]
    num_frames: int
    labels: Path | None  # folder of annotations; None if there is none


class TrackRecipe(NamedTuple):
    """Recipe of a challenge track."""

    rows: tuple[Row, ...]
    num_frames: Mapping[str, int]  # expected frames of each month
    month_weights: Mapping[str, float]  # weight of each month in the weighted mean


def plan(
    recipe: TrackRecipe, data: str | Path, weights: str | Path, only: Sequence[str] = ()
) -> tuple[list[Month], list[str]]:
    """Inputs of each month, and a line for each input that is missing or wrong.

    `data` is the root of LTD, `weights` the folder of weights, `only` the names of months (default: all).
    Raises InputError for a recipe in which a month does not have exactly one row.
    """
    rows = recipes.by_month(recipe.rows, only or months.MONTHS)
    recipes.check_counts(recipe.num_frames)
    months.check_weights(recipe.month_weights)
    todo, problems = [], []
    for name, row in rows.items():
        found = next((p for s in _SUFFIXES if (p := Path(weights) / (row.weights + s)).exists()), None)
        if found is None:
            place = Path(weights) / row.weights
            problems.append(f"{name}: no weights {place}; expected a folder, or a .pt or .pth file")
        try:
            frames = submission.frame_paths(data, name)
        except InputError as error:
            problems.append(f"{name}: {error}")
            frames = {}
        expected = recipe.num_frames[name]
        if frames and len(frames) != expected:
            problems.append(
                f"{name}: {len(frames)} frames, expected {expected}{_gaps(frames, expected - len(frames))}"
            )
        problems += [
            f"{name}: {path} is empty; copy it again" for path in frames.values() if path.stat().st_size == 0
        ]
        todo.append(Month(name, row, found or Path(), _parts(frames), len(frames), _labels(frames)))
    return todo, problems


def run(todo: Sequence[Month], workdir: str | Path, load: Load, month_weights: Mapping[str, float]) -> Path:
    """Process the months of `plan` in the folder `workdir`; returns the path of the submission."""
    workdir = Path(workdir)
    hashes = {month.weights: _hash_of(month.weights) for month in todo}
    detectors = _Detectors(load)
    results, before, after = {}, {}, {}
    for number, month in enumerate(todo, 1):
        began = time.monotonic()
        results[month.name], made = _result(month, workdir, hashes[month.weights], detectors)
        line = f"{month.name} {number}/{len(todo)}: {month.num_frames} frames, {month.row}"
        if month.labels is not None:
            labels = months.read_labels(month.labels)
            raw, final = (_released(paths) for paths in (made, [results[month.name]]))
            before[month.name] = months.precision(labels, raw.frames).ap
            after[month.name] = months.precision(labels, final.frames).ap
            line += f", AP before {before[month.name]:.4f}, after {after[month.name]:.4f}"
        logging.info("%s, %.0f s", line, time.monotonic() - began)
    if after:
        logging.info("before post-processing: %s", months.report(before, month_weights))
        logging.info("after post-processing:  %s", months.report(after, month_weights))
        series = {"without post-processing": before, "as submitted": after}
        drift(workdir / "drift.png", series)
    return _submit(todo, results, workdir / "predictions.pkl")


def describe(month: Month, workdir: str | Path) -> str:
    """Line of the plan for one month: frames, settings, and the number of days already predicted."""
    folder = Path(workdir) / "predictions"
    done = 0
    if month.weights != Path():
        key = _hash_of(month.weights)
        done = sum((folder / _part_name(month, part, key)).exists() for part in month.parts)
    return (
        f"{month.name}: {month.num_frames} frames, {month.row}; {done} of {len(month.parts)} days predicted"
    )


class _Detectors:
    """Loads detectors when they are needed, and keeps the last one."""

    def __init__(self, load: Load):
        self._load, self._key, self._detect = load, None, None

    def get(self, row: Row, weights: Path) -> Detect:
        key = (row._replace(months="", rule="", min_score=0.0), weights)
        if self._detect is None or self._key != key:
            self._key, self._detect = key, self._load(row, weights)
        return self._detect


def _result(month: Month, workdir: Path, weights_hash: str, detectors: _Detectors) -> tuple[Path, list[Path]]:
    """Result file of a month and its files of predictions; those that do not exist are made."""
    made = []
    for part in month.parts:
        path = workdir / "predictions" / _part_name(month, part, weights_hash)
        if not path.exists():
            _predict(part, path, detectors.get(month.row, month.weights), month)
        made.append(path)
    settings = [month.row.rule, month.row.min_score, [path.name for path in made]]
    result = workdir / "results" / f"{month.name}-{_digest(settings)}.h5"
    if not result.exists():
        # Parity: the released scripts post-process pickles, whose numbers are rounded.
        files.map_clips(
            made, result, lambda frames: month.row.apply(list(map(pickle.rounded, frames))), month.row.rule
        )
    return result, made


def _predict(part: Part, path: Path, detect: Detect, month: Month) -> None:
    with store.create(path, months.CLASSES, "name", {"month": month.name, "row": str(month.row)}) as writer:
        found = detect(list(part.frames.values()))
        for key, boxes in zip(part.frames, found, strict=True):
            writer.append(replace(boxes, source=key))


def _submit(todo: Sequence[Month], results: Mapping[str, Path], path: Path) -> Path:
    content = {}
    for month in todo:
        found = _released([results[month.name]])
        entries = submission.merge([(month.name, found)])[month.name]
        listing = sorted(key for part in month.parts for key in part.frames)
        added = submission.fill(month.name, entries, listing)
        content[month.name] = {key: entries[key] for key in listing}
        logging.info("%s is ok: %d frames, %d of them without detections", month.name, len(listing), added)
    submission.write(path, content)
    return path


def _released(paths: Sequence[Path]) -> BoxFile:
    """The boxes of these files as in a released pickle: rounded, and frames without boxes left out."""
    frames, metadata = [], {}
    for path in paths:
        with store.read(path) as reader:
            frames += [pickle.rounded(boxes) for boxes in reader if len(boxes)]
            metadata = reader.metadata
    return BoxFile(frames, months.CLASSES, True, ReadReport(), metadata)


def drift(path: Path, series: Mapping[str, Mapping[str, float]]) -> None:
    """Plot AP by month, a curve per entry of `series` (name -> month -> AP), into a picture file."""
    rows = {
        name: ([m for m in months.MONTHS if m in values], [values[m] for m in months.MONTHS if m in values])
        for name, values in series.items()
    }
    plots.lines(path, rows, "month", "AP")


def _clips(keys: Iterable[str]) -> dict[str, list[str]]:
    """Frame keys by clip, sorted by frame number in each clip."""
    frames = [Boxes.none(source=key) for key in keys]
    return {clip: [frames[row].source for row in rows] for clip, rows in names.by_clip(frames).items()}


def _parts(frames: Mapping[str, Path]) -> list[Part]:
    days: dict[str, dict[str, Path]] = {}
    for keys in _clips(frames).values():
        for key in keys:
            days.setdefault(key.split("_", 1)[0], {})[key] = frames[key]
    return [
        Part(day, found, _digest([[key, path.stat().st_size] for key, path in found.items()]))
        for day, found in sorted(days.items())
    ]


def _gaps(frames: Mapping[str, Path], num_missing: int) -> str:
    """Phrase with the names of frames that are missing between others of their clip; empty if none are."""
    missing = []
    for clip, keys in _clips(frames).items():
        width = len(keys[-1].rpartition("_")[2])
        numbers = {int(key.rpartition("_")[2]) for key in keys}
        missing += [f"{clip}_{n:0{width}d}" for n in range(max(numbers)) if n not in numbers]
    if num_missing <= 0 or not missing:
        return ""
    more = f" and {len(missing) - 20} more" if len(missing) > 20 else ""
    return f"; absent within their clips: {', '.join(missing[:20])}{more}"


def _labels(frames: Mapping[str, Path]) -> Path | None:
    """Folder of annotations beside the folder of frames, or None."""
    first = next(iter(frames.values()), None)
    if first is None:
        return None
    folder = next((p.with_name("annotations") for p in first.parents if p.name in ("frames", "images")), None)
    return folder if folder is not None and folder.is_dir() else None


def _part_name(month: Month, part: Part, weights_hash: str) -> str:
    row = month.row
    settings = [_VERSION, row.model, row.size, row.tta, row.conf, weights_hash, part.data_hash]
    return f"{month.name}-{re.sub(r'[^0-9A-Za-z]', '', part.day)}-{_digest(settings)}.h5"


def _hash_of(weights: Path) -> str:
    """Hash of a file, or of the names and contents of all files of a folder."""
    if weights.is_file():
        return sha256(weights)
    inside = sorted(path for path in weights.rglob("*") if path.is_file())
    return _digest([[str(path.relative_to(weights)), sha256(path)] for path in inside])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
