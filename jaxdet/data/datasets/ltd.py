"""The Long-term Thermal Drift data set (LTD): folders, annotations, frame names, months, and frame lists.

As distributed:

    Train/{Day,Week,Month}/{frames,annotations}/<date>/<clip>/   image_NNNN.jpg, annotations_NNNN.txt
    Test/<Mon>/frames/<date>/<clip>/

`date` is YYYYMMDD, `clip` is `clip_<a>_<hhmm>`, with one frame per second. As prepared, with one folder per
split or month:

    <split>/images/<date>_<clip>_<NNNN>.jpg      <split>/labels/<date>_<clip>_<NNNN>.txt      <split>/all.txt
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdet import class_names
from jaxdet.errors import InputError
from jaxdet.files import finished
from jaxdet.formats.text import read_text
from jaxdet.structs import Boxes

CLASSES = class_names.LTD
WIDTH, HEIGHT = 384, 288
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
TRAIN_SPLITS = ("Day", "Week", "Month")
TEST_MONTHS = ("Jan", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep")

_DATE = re.compile(r"\d{8}")
_CLIP = re.compile(r"clip_\w+")
_IMAGE = re.compile(r"image_(\d{4,})\.jpg")
_KEY = re.compile(r"(\d{4}(?:0[1-9]|1[0-2])(\d\d)_clip_\w+)_\d{4,}")


class Frame(NamedTuple):
    """A frame of the distributed data set; frames sort by date, clip and number."""

    date: str
    clip: str
    number: int
    image: Path
    annotation: Path  # may be missing

    @property
    def key(self) -> str:
        """`<date>_<clip>_<NNNN>`, the name of the frame in prepared folders, lists and predictions."""
        return f"{self.date}_{self.clip}_{self.number:04d}"


def find_frames(folder: str | Path) -> list[Frame]:
    """Frames of a split or month as distributed, by date, clip and number. InputError if there are none."""
    folder = Path(folder)
    found = []
    for path in finished((folder / "frames").glob("*/*/*.jpg"), folder):
        date, clip, match = path.parts[-3], path.parts[-2], _IMAGE.fullmatch(path.name)
        if match is None or not _DATE.fullmatch(date) or not _CLIP.fullmatch(clip):
            raise InputError(f"{path}: expected <YYYYMMDD>/clip_<a>_<hhmm>/image_<NNNN>.jpg")
        annotation = folder / "annotations" / date / clip / f"annotations_{match[1]}.txt"
        found.append(Frame(date, clip, int(match[1]), path, annotation))
    if not found:
        raise InputError(f"{folder}: no frames; expected frames/<date>/<clip>/image_NNNN.jpg")
    return sorted(found)


def clip_of(key: str) -> str:
    """`<date>_<clip>` of a frame. Raises InputError for a name that is not a frame's."""
    return _match(key)[1]


def day_of(key: str) -> int:
    """Day of the month of a frame by its date, 1 to 31; errors as `clip_of`."""
    return int(_match(key)[2])


def _match(key: str) -> re.Match[str]:
    match = _KEY.fullmatch(key)
    if match is None:
        raise InputError(f"{key}: not a frame's name; expected <YYYYMMDD>_clip_<a>_<hhmm>_<NNNN>")
    return match


def read_annotation(path: str | Path) -> Boxes:
    """Boxes of an annotation file, one line each: id, class name, x1 y1 x2 y2; further columns are ignored.

    Coordinates are pixels of the frame. Raises InputError that names file and line.
    """
    rows = []
    for number, line in enumerate(read_text(path, "LTD annotations").splitlines(), 1):
        if line.strip():
            rows.append(_row(line.split(), f"{path}:{number}"))
    table = np.array(rows, int).reshape(-1, 5)
    return Boxes(
        table[:, 1:].astype(np.float64),
        np.ones(len(table)),
        table[:, 0].astype(np.int32),
        CLASSES,
        image_size=(HEIGHT, WIDTH),
    )


def _row(fields: Sequence[str], where: str) -> list[int]:
    if len(fields) < 6:
        raise InputError(f"{where}: {len(fields)} columns, expected 6: id class x1 y1 x2 y2")
    if fields[1] not in CLASSES:
        raise InputError(f"{where}: class {fields[1]!r}, expected one of {', '.join(CLASSES)}")
    try:
        x1, y1, x2, y2 = (int(field) for field in fields[2:6])
    except ValueError as error:
        raise InputError(f"{where}: corners {' '.join(fields[2:6])!r}, expected whole pixels") from error
    if not (0 <= x1 <= x2 <= WIDTH and 0 <= y1 <= y2 <= HEIGHT):
        raise InputError(f"{where}: box {x1} {y1} {x2} {y2}, expected corners in {WIDTH}x{HEIGHT} pixels")
    return [CLASSES.index(fields[1]), x1, y1, x2, y2]


def label_text(annotation: Boxes) -> str:
    """A YOLO label file: class, centre and size as fractions of the frame, 6 decimals."""
    x1, y1, x2, y2 = annotation.xyxy.T
    rows = zip(
        annotation.labels,
        (x1 + x2) / 2 / WIDTH,
        (y1 + y2) / 2 / HEIGHT,
        (x2 - x1) / WIDTH,
        (y2 - y1) / HEIGHT,
        strict=True,
    )
    return "".join(f"{label} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for label, x, y, w, h in rows)


class Rule(NamedTuple):
    """Every `every`-th of the frames in order, or of those that show an object of a class."""

    every: int
    label: str | None = None


# Frame lists are unions of rules. The first released `mot10` holds all motorcycle frames, despite its name.
LISTS: dict[str, tuple[Rule, ...]] = {
    "all": (Rule(1),),
    "e5": (Rule(5),),
    "e10": (Rule(10),),
    "e15": (Rule(15),),
    "e10_bic10_mot": (Rule(10), Rule(10, "bicycle"), Rule(1, "motorcycle")),
    "e10_bic10_mot10": (Rule(10), Rule(10, "bicycle"), Rule(1, "motorcycle")),
    "e10_bic10_mot10_a": (Rule(10), Rule(10, "bicycle"), Rule(10, "motorcycle")),
}


def sample(frames: Mapping[str, frozenset[int]], rules: Sequence[Rule]) -> list[str]:
    """Sorted keys of the labelled frames that any rule takes; `frames` maps a key to the classes in it.

    Frames without objects are not labelled and do not count. Frames are numbered over all clips together, not
    within one. Parity: of n frames with a class, n // every are taken; of all n labelled frames, n / every
    rounded up.
    """
    labelled = sorted(key for key, labels in frames.items() if labels)
    taken: set[str] = set()
    for rule in rules:
        if rule.label is None:
            taken.update(labelled[:: rule.every])
        else:
            index = CLASSES.index(rule.label)
            shown = [key for key in labelled if index in frames[key]]
            taken.update(shown[:: rule.every][: len(shown) // rule.every])
    return sorted(taken)


def list_text(keys: Sequence[str]) -> str:
    """A list file of these frames, as released lists are written."""
    return "".join(f"./images/{key}.jpg\n" for key in keys)
