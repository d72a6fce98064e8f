"""PKU-DAVIS-SOD, traffic seen by a DAVIS346 (346x260 pixels) by day, by night and in fast motion.

raw/{train,val,test}/<scene>/<recording>.aedat4   events and frames
annotations/{train,val,test}/<scene>/<recording>/<K>.json   boxes of frame K, counted from 1

A frame without a file has no boxes. The times of frames are those of the AEDAT4 file, the middle of each
exposure; whether the makers took these, or the end of the exposure, is not established.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet.data.datasets.event_sets import EventSource, FoundSources
from jaxdet.data.datasets.preparation import SPLITS
from jaxdet.data.events import aedat4
from jaxdet.data.events.label_files import ROWS, Classes, LabelPart, RecordingLabels
from jaxdet.errors import InputError
from jaxdet.files import finished, visible_name
from jaxdet.formats.text import number, read_json
from jaxdet.structs import ReadReport

SIZE = (260, 346)  # height, width
CLASSES = {"3": ("car", "person", "two-wheeler")}  # 1, 2 and 3 in the files
_EXPECTED = "boxes of a frame: shapes with a label and two points"


def find(source: Path, classes: Classes) -> FoundSources:
    """The recordings below `source` with a folder of annotations; others become problems.

    InputError if there are no such folders.
    """
    for folder in (source / "raw", source / "annotations"):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder, expected raw and annotations; check --source")
    problems: list[str] = []
    sources = []
    for split in SPLITS:
        root = source / "raw" / split
        for path in finished(root.glob("*/*.aedat4"), root):
            boxes = source / "annotations" / split / path.parent.name / path.stem
            if not boxes.is_dir():
                problems.append(f"{path}: no {boxes}; extract it too")
                continue
            try:
                name = visible_name(path.stem, f"{path}: name of a recording")
            except InputError as error:
                problems.append(str(error))
                continue
            sources.append(EventSource(split, name, (path,), partial(_labels, classes, path, boxes)))
    return FoundSources(sorted(sources, key=lambda source: source[:2]), problems, [])


def _labels(classes: Classes, events: Path, folder: Path, report: ReadReport) -> RecordingLabels:
    times = aedat4.frame_times(events)
    rows = []
    for path in finished(folder.glob("*.json"), folder):
        index = int(path.stem) - 1 if path.stem.isdecimal() and len(path.stem) < 10 else -1
        if not 0 <= index < len(times):
            report.add("label files of no frame", where=str(path))
            continue
        rows += [(int(times[index]), *row, 0, 1) for row in read_boxes(path, report)]
    part = LabelPart(events.stem, np.array(rows, ROWS), np.unique(times), ("", *CLASSES["3"]))
    return classes.select([part], report)


def read_boxes(path: Path, report: ReadReport) -> list[tuple[float, float, float, float, int]]:
    """Left, top, width, height and number of the class of the boxes of a frame.

    Shapes that are no boxes of a known class are counted; InputError for a file of another kind.
    """
    content = read_json(path, _EXPECTED)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise InputError(f"{path}: no list of shapes; expected {_EXPECTED}")
    found = []
    for shape in shapes:
        known = shape if isinstance(shape, dict) else {}
        corners, label = _corners(known.get("points")), _label(known)
        if corners is None or label is None:
            report.add("shapes without a class from 1 to 3 and two points", where=str(path))
            continue
        (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
        found.append((left, top, right - left, bottom - top, label))
    return found


def _corners(points: Any) -> np.ndarray | None:
    if not isinstance(points, list) or len(points) != 2:
        return None
    numbers = [[number(value) for value in point] if isinstance(point, list) else [] for point in points]
    if any(len(row) != 2 or None in row for row in numbers):
        return None
    return np.array(numbers, np.float64)


def _label(shape: dict[str, Any]) -> int | None:
    """Number of the class; some files spell the key otherwise."""
    value = shape.get("label", shape.get("lable"))
    text = str(value).strip()
    return int(text) if text in ("1", "2", "3") else None
