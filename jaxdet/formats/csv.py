"""Boxes as a table with a header line, for spreadsheets and data frames; it holds every field of `Boxes`.

| column | meaning |
| ------ | ------- |
| source | path of the image relative to its root, or name of the recording, clip or video |
| frame, time_us, image_id | number of the frame, time in microseconds, COCO id; empty where there is none |
| height, width | size of the image in pixels |
| x1, y1, x2, y2 | corners in pixels |
| score | 0 to 1; 1 for labels |
| track | identity over time; only where boxes have one |
| label, class | index and name of the class; the name is empty where classes have none |

A frame without boxes is a line whose last seven columns are empty. Reading wants source, x1, y1, x2, y2 and
label or class, in any order, and ignores columns of other names. It takes `recording` for source, x, y, w, h
(left, top, width, height) for the corners, and time_ms or time_s for time_us.
"""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxdet.errors import InputError
from jaxdet.files import atomic
from jaxdet.formats import BoxFile
from jaxdet.formats.coco_ids import classes_of, same_id
from jaxdet.formats.text import read_text, shown
from jaxdet.structs import Boxes, ReadReport

COLUMNS = (
    "source", "frame", "time_us", "image_id", "height", "width", "x1", "y1", "x2", "y2",
    "score", "label", "class",
)  # fmt: skip
_CORNERS = ("x1", "y1", "x2", "y2")
_SIDES = ("x", "y", "w", "h")
_UNITS = {"time_ms": 1_000, "time_s": 1_000_000}
_LARGEST = 1 << 62  # of frames, times and tracks, which fit 64 bits
_EXPECTED = "a table of boxes with the columns source, x1, y1, x2, y2 (or x, y, w, h) and label or class"


def write(path: str | os.PathLike, frames: Iterable[Boxes], class_names: Sequence[str] = ()) -> None:
    """Write boxes; numbers have as many digits as their type holds."""
    frames = list(frames)
    tracked = any(boxes.track_ids is not None for boxes in frames)
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, "track") if tracked else COLUMNS)
        for boxes in frames:
            size = boxes.image_size or (None, None)
            where = [boxes.source, boxes.frame, boxes.time_us, boxes.image_id, *size]
            if not len(boxes):
                writer.writerow([*where, *[None] * 7])
            ids = np.full(len(boxes), -1) if boxes.track_ids is None else boxes.track_ids
            rows = zip(boxes.xyxy, boxes.scores, boxes.labels.tolist(), ids.tolist(), strict=True)
            for corners, score, label, track in rows:
                name = class_names[label] if class_names else None
                row = [*where, *map(str, corners), str(score), label, name]
                writer.writerow([*row, track if track > 0 else None] if tracked else row)


def read(path: str | os.PathLike, source: str | None = None) -> BoxFile:
    """Read boxes. Lines that cannot be read are left out and counted. `source` is that of files without one.

    Numbers are float32 if all of them are written as float32 numbers are, else float64: a table that `write`
    made of a detector's boxes gives the same bits again.
    """
    rows = csv.DictReader(io.StringIO(read_text(path, _EXPECTED), newline=""))
    columns = _header(path, rows, source)
    report, frames, pairs = ReadReport(), {}, {}
    try:
        for row in rows:
            where = f"line {rows.line_num}"
            row = _standard(row, source)
            key = _frame(row)
            if key is None:
                report.add("lines with a frame, time or size that is no whole number", where=where)
                continue
            found = frames.setdefault(key, [])
            if not any(row.get(name) for name in (*_CORNERS, "score", "label", "class")):
                continue
            values = _values(row)
            if values is None:
                report.add("lines without four corners, a score or a class", where=where)
                continue
            label, name = values[-1]
            if pairs.setdefault(label, name) != name:
                raise InputError(f"{path}: label {label} is called {shown(pairs[label])} and {shown(name)}")
            found.append(values)
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: {error}; expected {_EXPECTED}") from error
    if report and not any(frames.values()):
        raise InputError(f"{path}: no box could be read: {report.line()}")
    class_names, index = _classes(pairs)
    texts = (text for found in frames.values() for texts, *_ in found for text in texts)
    kind = np.float32 if all(str(np.float32(text)) == text for text in texts) else np.float64
    boxes = [_boxes(key, found, class_names, index, kind) for key, found in frames.items()]
    return BoxFile(boxes, class_names, "score" in columns, report)


def _header(path: str | os.PathLike, rows: csv.DictReader, source: str | None) -> Sequence[str]:
    try:
        columns = rows.fieldnames or ()
    except csv.Error as error:
        raise InputError(f"{path}: {error}; expected {_EXPECTED}") from error
    corners = _CORNERS if not set(_SIDES) <= set(columns) else _SIDES
    named = () if source is not None or "recording" in columns else ("source",)
    missing = [name for name in (*named, *corners) if name not in columns]
    if missing or not {"label", "class"} & set(columns):
        raise InputError(f"{path}: no column {', '.join(missing) or 'label or class'}; expected {_EXPECTED}")
    return columns


def _standard(row: dict[str, Any], source: str | None) -> dict[str, Any]:
    """The line in the columns of `COLUMNS`; what cannot be converted stays as it is and is found later."""
    row = {**row, "source": row.get("source") or row.get("recording") or source}
    if row.get("x1") is None and row.get("x"):
        try:
            x, y, w, h = (float(row[name]) for name in _SIDES)
        except (TypeError, ValueError):
            row |= dict.fromkeys(_CORNERS, "?")
        else:
            row |= {"x1": row["x"], "y1": row["y"], "x2": repr(x + w), "y2": repr(y + h)}
    for name, factor in _UNITS.items():
        if row.get("time_us") is None and row.get(name):
            try:
                row["time_us"] = str(round(float(row[name]) * factor))
            except (ValueError, OverflowError):
                row["time_us"] = "?"
    return row


def _frame(row: dict[str, Any]) -> tuple | None:
    numbers = []
    for name in ("frame", "time_us", "height", "width"):
        text = row.get(name) or None
        value = same_id(text) if text else None
        if text and not (isinstance(value, int) and abs(value) < _LARGEST):
            return None
        numbers.append(value)
    frame, time_us, height, width = numbers
    size = (height, width) if height and width else None
    return row["source"] or "", frame, time_us, same_id(row.get("image_id") or None), size


def _values(row: dict[str, Any]) -> tuple | None:
    """Numbers as they are written, corners, score, track and (label, class name) of a line."""
    try:
        corners = [float(row[name]) for name in _CORNERS]
        score = float(row["score"]) if row.get("score") else 1.0
        label = int(row["label"]) if row.get("label") else None
        track = int(row["track"]) if row.get("track") else -1
    except (KeyError, TypeError, ValueError):  # no column, no text, no number
        return None
    name = row.get("class") or None
    if not np.isfinite([*corners, score]).all() or (label is None and name is None):
        return None
    if (label is not None and not 0 <= label < 2**31) or abs(track) >= _LARGEST:
        return None
    # Without numbers the names themselves tell classes apart.
    texts = [row[name] for name in (*_CORNERS, "score") if row.get(name)]
    return texts, corners, score, track, (name if label is None else label, name)


def _classes(pairs: dict) -> tuple[tuple[str, ...], dict]:
    """Class names and the label of each class; () and the file's own numbers if not all have names."""
    if any(name is None for name in pairs.values()):
        return (), {label: label for label in pairs}
    return classes_of(pairs)


def _boxes(key: tuple, found: list, class_names: tuple[str, ...], index: dict, kind: type) -> Boxes:
    source, frame, time_us, image_id, size = key
    where: dict[str, Any] = {"class_names": class_names, "source": source, "frame": frame, "time_us": time_us}
    where |= {"image_id": image_id, "image_size": size}
    labels = np.array([index[label] for *_, (label, _) in found], np.int32)
    corners = np.array([corners for _, corners, *_ in found], kind).reshape(-1, 4)
    scores, tracks = ([row[column] for row in found] for column in (2, 3))
    if max(tracks, default=-1) > 0:
        where["track_ids"] = np.array(tracks, np.int64)
    return Boxes(corners, np.array(scores, kind), labels, **where)
