"""LTDv2, the successor of LTD with an open board: layout, numbers of frames, months.

As distributed:

    frames/YYYYMMDD/clip_N_HHMM/image_NNNN.jpg      Train.json  Valid.json  TestNoLabels.json  (COCO)

A frame is called by its uid, 17 digits: year and month, clip (3 digits), day (2), hour, minute and second. It
is the image id of the COCO files and the key of a submission.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxdet import class_names
from jaxdet.data.datasets.coco_layout import Labelled
from jaxdet.errors import InputError
from jaxdet.formats import coco
from jaxdet.formats.text import read_json
from jaxdet.structs import ReadReport

CLASSES = class_names.LTDV2
CATEGORIES = dict(enumerate(CLASSES, 1))
WIDTH, HEIGHT = 384, 288
SPLITS = {"train": "Train.json", "val": "Valid.json", "test": "TestNoLabels.json"}
# The eight intervals of the score, by the first six digits of the uid.
INTERVALS = {
    "202101": "Jan", "202102": "Feb", "202103": "Mar", "202104": "Apr", "202005": "May", "202006": "Jun",
    "202007": "Jul", "202008": "Aug",
}  # fmt: skip

_UID = re.compile(r"(\d{4})(0[1-9]|1[0-2])(\d{3})(0[1-9]|[12]\d|3[01])([01]\d|2[0-3])([0-5]\d)([0-5]\d)")
_NAMES = {1: {"person", "human"}, 2: {"bicycle"}, 3: {"motorcycle"}, 4: {"vehicle"}}
_EXPECTED = "COCO annotations of LTDv2"


class Uid(NamedTuple):
    """Parts of a frame's number."""

    year: int
    month: int
    clip: int
    day: int
    hour: int
    minute: int
    second: int


def decode(uid: int | str) -> Uid:
    """Parts of a frame's number. Raises InputError for one that is not 17 digits of a date and time."""
    match = _UID.fullmatch(str(uid))
    if match is None:
        raise InputError(f"frame {str(uid)[:40]!r}: expected 17 digits, YYYYMM, clip, day and HHMMSS")
    return Uid(*map(int, match.groups()))


def interval_of(uid: int | str) -> str | None:
    """Interval of the score to which a frame belongs, `Jan` to `Aug`; None for a frame of another month."""
    decode(uid)
    return INTERVALS.get(str(uid)[:6])


def read_annotations(path: str | os.PathLike) -> coco.Annotations:
    """Annotations of a COCO file of LTDv2, its four classes in their order; background is no class.

    A file without a list of annotations has frames without boxes. InputError for other categories.
    """
    content = read_json(path, _EXPECTED)
    if not isinstance(content, dict):
        raise InputError(f"{path}: a {type(content).__name__}, expected {_EXPECTED}")
    listed = content.get("categories") or []
    for row in listed if isinstance(listed, list) else []:
        number, name = (row.get("id"), row.get("name")) if isinstance(row, dict) else (None, None)
        if isinstance(number, int) and number in _NAMES and str(name).lower() not in _NAMES[number]:
            raise InputError(f"{path}: category {number} is {name!r}, expected {CATEGORIES[number]}")
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    content = {**content, "categories": categories, "annotations": content.get("annotations") or []}
    return coco.annotations_of(content, path)


def splits(source: Path, report: ReadReport) -> Iterator[tuple[str, Iterator[Labelled]]]:
    """Splits that `source` has annotations of, with their images."""
    for split, name in SPLITS.items():
        if (source / name).is_file():
            yield split, _images(source, source / name, report)


def _images(source: Path, annotations: Path, report: ReadReport) -> Iterator[Labelled]:
    known = read_annotations(annotations)
    report.merge(known.report)
    for boxes in known.frames:
        decode(boxes.image_id if boxes.image_id is not None else "")
        places = (source / "frames" / boxes.source, source / boxes.source)
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            report.add("frames that are not in frames/", where=f"{annotations.name}: {boxes.source}")
        else:
            yield Labelled(path, boxes)
