"""YOLO text, one file per image and one line per box: class, centre and size as fractions, and a score.

Fractions are of the image's sides; labels have no score.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet.errors import InputError
from jaxdet.files import atomic, safe_path
from jaxdet.formats import names
from jaxdet.formats.text import read_text as read_lines
from jaxdet.formats.text import shown
from jaxdet.structs import Boxes, ReadReport

# Labelling tools write borders that lie beyond the image by a rounding error.
TOLERANCE = 0.01
_EXPECTED = "lines of class xc yc w h"


def read_labels(
    path: str | os.PathLike, num_classes: int, report: ReadReport | None = None
) -> np.ndarray | None:
    """Rows (class, xc, yc, w, h) of a label file, sides relative to the image -> float32 [M, 5].

    A missing file is an image without boxes. A sixth column, the confidence of whatever made the labels, is
    passed over; of longer lines, which are polygons, the box around them is taken; values up to `TOLERANCE`
    outside 0 to 1 are set to the border. `report` counts all this. With a report a line that cannot be read
    is left out and counted and a file that is no text is None, without it they are an InputError. A class
    that the data set does not have is an InputError in any case: it speaks of the whole set.
    """
    if not os.path.lexists(path):
        return np.zeros((0, 5), np.float32)
    try:
        lines = read_lines(path, _EXPECTED).splitlines()
    except InputError as error:
        if report is None:
            raise
        report.add("images whose label file cannot be read", where=str(error))
        return None
    rows, noted = [], ReadReport() if report is None else report
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        row = _numbers(line.split())
        if row is not None:
            row = _box_of(row, noted, where)
        fault = "not numbers" if row is None else _fault(row)
        if row is None or fault:
            if report is None:
                raise InputError(f"{where}: {shown(line.strip())}: {fault}; expected class xc yc w h")
            report.add(
                f"label lines with {fault}" if row is not None else "label lines that are not numbers",
                where=where,
            )
            continue
        if row[0] != int(row[0]) or not 0 <= row[0] < num_classes:
            raise InputError(
                f"{where}: class {row[0]:g}, expected a whole number from 0 to {num_classes - 1}"
            )
        inside = [min(max(value, 0.0), 1.0) for value in row[1:]]
        if inside != row[1:]:
            noted.note("label lines just outside of their image, clipped to it", where=where)
        rows.append([row[0], *inside])
    return np.asarray(rows, np.float32).reshape(-1, 5)


def _box_of(row: list[float], report: ReadReport, where: str) -> list[float]:
    """The five numbers of a line that has more."""
    if len(row) == 6:
        report.note("label lines without their sixth column", where=where)
        return row[:5]
    if len(row) < 7 or len(row) % 2 == 0:
        return row
    report.note("polygons as the boxes around them", where=where)
    return [row[0], *_around(row[1:])]


def _around(corners: Sequence[float]) -> list[float]:
    """Centre and size of the box around a polygon x1, y1, x2, y2, ..."""
    x, y = corners[::2], corners[1::2]
    low, high = (min(x), min(y)), (max(x), max(y))
    return [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, high[0] - low[0], high[1] - low[1]]


def read_text(
    path: str | os.PathLike, image_size: tuple[int, int], report: ReadReport | None = None, **where: Any
) -> Boxes:
    """Boxes of an image of `image_size` (height, width), float32; scores are 1 where the lines have none.

    `where` (source, class_names, ...) goes to the Boxes. Lines that cannot be read are left out and counted
    in `report`, without it they are an InputError.
    """
    rows = []
    for number, line in enumerate(read_lines(path, _EXPECTED).splitlines(), 1):
        row = _numbers(line.split())
        if row and len(row) in (5, 6) and 0 <= row[0] < 2**31 and row[0] == int(row[0]):
            rows.append([*row, 1.0][:6])
        elif line.strip():
            if report is None:
                raise InputError(
                    f"{path}:{number}: {shown(line.strip())}; expected class xc yc w h, "
                    "and optionally a score"
                )
            report.add(
                "lines that are not class xc yc w h, with or without a score", where=f"{path}:{number}"
            )
    label, x, y, w, h, score = np.array(rows, np.float64).reshape(-1, 6).T
    xyxy = np.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), 1) * np.tile(image_size[::-1], 2)
    return Boxes(
        xyxy.astype(np.float32),
        score.astype(np.float32),
        label.astype(np.int32),
        image_size=image_size,
        **where,
    )


def write_text(folder: str | os.PathLike, boxes: Boxes, scores: bool = True) -> Path:
    """Write `<source without suffix>.txt`, empty without boxes, with as many digits as the values have.

    Raises InputError for boxes that do not know the size of their image, or whose source leads out of
    `folder`.
    """
    name = f"{safe_path(names.path_name(boxes), 'name of an image')}.txt"
    if boxes.image_size is None:
        raise InputError(
            f"{boxes.source}: the size of the image is not known, which YOLO text needs; use .json"
        )
    path = Path(folder) / name
    scale = np.tile(boxes.image_size[::-1], 2).astype(np.float64)
    xyxy = boxes.xyxy.astype(np.float64)
    centred = np.concatenate(((xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]), 1) / scale
    ends = [f" {score!s}\n" if scores else "\n" for score in boxes.scores]
    lines = [
        f"{label} {' '.join(map(repr, row))}{end}"
        for label, row, end in zip(boxes.labels.tolist(), centred.tolist(), ends, strict=True)
    ]
    with atomic(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    return path


def _numbers(fields: Sequence[str]) -> list[float] | None:
    try:
        row = [float(field) for field in fields]
    except ValueError:
        return None
    return row if np.isfinite(row).all() else None


def _fault(row: list[float]) -> str:
    if len(row) != 5:
        return f"{len(row)} columns, not 5"
    if not all(-TOLERANCE <= value <= 1 + TOLERANCE for value in row[1:]):
        return "coordinates outside of 0 to 1"
    return ""
