"""Labels of event recordings from the files that labelling tools write.

| file | a box belongs to |
|---|---|
| `<recording>_bbox.npy`, `<recording>.npy` | a row with t (us), x, y, w, h, class_id, of any numeric types |
| `.csv` | a line with the columns of `formats.csv`; without `recording` or `source`, the file's name |
| `.json` (COCO) | an image with `time_us`, `time_ms` or `time_s`, and perhaps `recording` |
| `<recording>/<time_us>.txt`, `<recording>_<time_us>.txt` (YOLO) | a time stamp |
| `<recording>/<time_us>.xml`, `<recording>_<time_us>.xml` (VOC) | a time stamp |

The recording of a COCO image without `recording` is the folder of its `file_name`, or else the name of the
JSON file. Times are in the clock of the camera.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from jaxdet.errors import InputError
from jaxdet.files import finished
from jaxdet.formats import coco, csv, npy, voc, yolo
from jaxdet.formats.coco_ids import same_id
from jaxdet.formats.text import number, read_json
from jaxdet.structs import Boxes, ReadReport

ROWS = np.dtype(
    [("t", "<i8"), *((side, "<f4") for side in "xywh"), ("class_id", "<u4"), ("track_id", "<u4"),
     ("confidence", "<f4")]
)  # fmt: skip
_SUFFIXES = (".npy", ".csv", ".json", ".txt", ".xml")
_OF_EVENTS = re.compile(r"(\.(dat|raw|h5|hdf5|npy|npz|csv|txt|aedat4))+$", re.IGNORECASE)
_STAMPED = re.compile(r"(?:(.+)_)?(-?\d+)")
_UNITS = {"time_us": 1, "time_ms": 1_000, "time_s": 1_000_000}
OTHER_CLASSES = "labels of other classes"

# Height and width of a recording's sensor; InputError where nobody knows them.
SizeOf = Callable[[str], tuple[int, int]]


def recording_name(path: str) -> str:
    """Name of the recording of a file of events or labels: without folders, suffixes, `_td` and `_bbox`."""
    return re.sub(r"_(td|bbox)$", "", _OF_EVENTS.sub("", PurePosixPath(path).name))


class LabelPart(NamedTuple):
    """Labels of one recording as a part of the files has them."""

    source: str  # name of the recording
    rows: np.ndarray  # ROWS [M]; class_id indexes `class_names`, or is the number in the file
    times_us: np.ndarray  # int64 [F], labelled times, those without a box included
    class_names: tuple[str, ...] = ()


class RecordingLabels(NamedTuple):
    """Labels of one recording in the classes of its data set."""

    rows: np.ndarray  # ROWS [M], in order of time
    times_us: np.ndarray  # int64 [F], ascending, those without a box included


@dataclass(frozen=True)
class Classes:
    """Classes of a data set and what other names or numbers of classes mean in them."""

    names: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...] = ()  # (name or number in the files, a class, or "" to ignore it)

    def __post_init__(self) -> None:
        for old, new in self.renamed:
            if new and new not in self.names:
                raise InputError(f"--map={old}={new}: expected one of the classes {', '.join(self.names)}")
        if len(set(self.names)) < len(self.names) or not all(self.names):
            raise InputError(f"--classes={','.join(self.names)}: expected different names")

    def index(self, label: int, known: Sequence[str]) -> int:
        """Class of a label, which indexes `known`, the names that its file has, if any; -1 for another."""
        found = known[label] if label < len(known) else str(label)
        renamed = dict(self.renamed)
        if found in renamed:
            return self.names.index(renamed[found]) if renamed[found] else -1
        if found in self.names:
            return self.names.index(found)
        if not known:
            return label if label < len(self.names) else -1
        plain = [name.casefold() for name in self.names]
        return plain.index(found.casefold()) if found.casefold() in plain else -1

    def select(self, parts: Iterable[LabelPart], report: ReadReport) -> RecordingLabels:
        """The labels of one recording in these classes; those of others are counted by name."""
        chosen, times = [np.zeros(0, ROWS)], [np.zeros(0, np.int64)]
        for part in parts:
            found, inverse = np.unique(part.rows["class_id"], return_inverse=True)
            index = np.array([self.index(label, part.class_names) for label in found.tolist()], np.int64)
            names = part.class_names
            for label, to, count in zip(found.tolist(), index.tolist(), np.bincount(inverse).tolist()):
                name = names[label] if label < len(names) else str(label)
                report.add(f"{OTHER_CLASSES} ({name})", 0 if to >= 0 else count)
            rows = part.rows.copy()
            rows["class_id"] = np.maximum(index, 0)[inverse]
            chosen.append(rows[(index >= 0)[inverse]])
            times.append(part.times_us)
        rows = np.concatenate(chosen)
        return RecordingLabels(rows[np.argsort(rows["t"], kind="stable")], np.unique(np.concatenate(times)))


def find(path: str | Path) -> list[Path]:
    """The label files at or below `path`; InputError if there are none."""
    path = Path(path)
    if path.is_file():
        return [path]
    found = finished((p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file()), path)
    if not found:
        raise InputError(f"{path}: no labels; expected files of {', '.join(_SUFFIXES)}")
    return found


def read(
    paths: Iterable[Path], size_of: SizeOf, report: ReadReport, problems: list[str]
) -> dict[str, list[LabelPart]]:
    """Labels of each recording, by its name.

    A file that cannot be read becomes a line of `problems`; what is left out of the others is counted.
    """
    found: dict[str, list[LabelPart]] = {}
    for path in paths:
        read_file = _READERS.get(path.suffix.lower())
        if read_file is None:
            problems.append(f"{path}: labels of an unknown kind; expected {', '.join(_SUFFIXES)}")
            continue
        try:
            for part in read_file(path, size_of, report):
                found.setdefault(part.source, []).append(part)
        except InputError as error:
            problems.append(str(error))
    return dict(sorted(found.items()))


def of_boxes(boxes: Boxes) -> LabelPart:
    """Labels of one frame, which has a time."""
    rows = np.zeros(len(boxes), ROWS)
    rows["t"], rows["class_id"], rows["confidence"] = boxes.time_us, boxes.labels, boxes.scores
    for side, column in zip("xywh", boxes.xywh.T, strict=True):
        rows[side] = column
    if boxes.track_ids is not None:
        rows["track_id"] = np.maximum(boxes.track_ids, 0)
    return LabelPart(boxes.source, rows, np.array([boxes.time_us], np.int64), boxes.class_names)


def of_table(table: np.ndarray, source: str, where: str, report: ReadReport) -> LabelPart:
    """Labels of a structured array, its columns taken by name; rows with invalid numbers are counted."""
    fields = table.dtype.names or ()
    rows, good = np.zeros(len(table), ROWS), np.ones(len(table), bool)
    rows["confidence"] = 1
    for name in ROWS.names or ():
        found = next((field for field in (name, *_ALIASES.get(name, ())) if field in fields), None)
        if found is None:
            if name in ("track_id", "confidence"):
                continue
            raise InputError(
                f"{where}: no field {name} among {', '.join(fields) or 'none'}; expected a table of boxes"
            )
        column = table[found]
        if column.ndim != 1 or column.dtype.kind not in "iufb":
            raise InputError(f"{where}: field {found} of type {column.dtype}; expected one number each")
        good &= np.isfinite(column) if column.dtype.kind == "f" else True
        if name in ("class_id", "track_id"):
            good &= (column >= 0) & (column < 1 << 31) & (column == np.floor(column))
        elif name == "t" and column.dtype.kind == "f":
            good &= np.abs(column) < 2.0**62
        with np.errstate(invalid="ignore", over="ignore"):  # of rows that are not good
            # A negative time that was stored without sign is negative again.
            rows[name] = column.astype(np.int64) if name == "t" else column
    report.add("labels with invalid numbers", int((~good).sum()), where)
    rows = rows[good]
    return LabelPart(source, rows, np.unique(rows["t"]))


_ALIASES = {"t": ("ts",), "confidence": ("class_confidence",)}


def _npy(path: Path, size_of: SizeOf, report: ReadReport) -> Iterator[LabelPart]:
    del size_of
    yield of_table(npy.read_table(path), recording_name(path.name), str(path), report)


def _csv(path: Path, size_of: SizeOf, report: ReadReport) -> Iterator[LabelPart]:
    del size_of
    content = csv.read(path, recording_name(path.name))
    report.merge(content.report)
    for boxes in content.frames:
        if boxes.time_us is None:
            report.add("label lines without a time", max(len(boxes), 1), str(path))
            continue
        yield of_boxes(replace(boxes, source=recording_name(boxes.source)))


def _json(path: Path, size_of: SizeOf, report: ReadReport) -> Iterator[LabelPart]:
    del size_of
    content = read_json(path, "COCO annotations with a time per image")
    annotations = coco.annotations_of(content, path)
    report.merge(annotations.report)
    images = {same_id(row.get("id")): row for row in content["images"] if isinstance(row, dict)}
    for boxes in annotations.frames:
        row = images.get(boxes.image_id, {})
        time_us = _image_time(row)
        if time_us is None:
            report.add("labelled images without time_us, time_ms or time_s", where=str(path))
            continue
        name = row.get("recording") or PurePosixPath(boxes.source).parent.name or path.stem
        kept = boxes if boxes.crowd is None else boxes.take(~boxes.crowd)
        report.add("regions (iscrowd)", len(boxes) - len(kept), str(path))
        yield of_boxes(replace(kept, source=recording_name(str(name)), time_us=time_us))


def _image_time(row: dict[str, Any]) -> int | None:
    for name, factor in _UNITS.items():
        value = number(row.get(name))
        if value is not None and abs(value * factor) < 2**62:
            # Whole microseconds are exact beyond the range of a float, too.
            return row[name] if isinstance(row[name], int) and factor == 1 else round(value * factor)
    return None


def _stamp(path: Path, report: ReadReport) -> dict[str, Any] | None:
    """Recording and time of a file of one time stamp."""
    match = _STAMPED.fullmatch(path.stem)
    name = (match[1] or path.parent.name) if match else ""
    if match is None or not name or len(match[2]) > 18:
        report.add("label files whose name is not <recording>_<time in us>", where=str(path))
        return None
    return {"source": name, "time_us": int(match[2])}


def _txt(path: Path, size_of: SizeOf, report: ReadReport) -> Iterator[LabelPart]:
    where = _stamp(path, report)
    if where is not None:
        yield of_boxes(yolo.read_text(path, size_of(where["source"]), report, **where))


def _xml(path: Path, size_of: SizeOf, report: ReadReport) -> Iterator[LabelPart]:
    del size_of
    where = _stamp(path, report)
    if where is not None:
        content = voc.read(path)
        report.merge(content.report)
        yield of_boxes(replace(content.frames[0], **where))


_READERS = {".npy": _npy, ".csv": _csv, ".json": _json, ".txt": _txt, ".xml": _xml}
