"""Submission of the Seasons in Drift challenge, `predictions.pkl`.

It is a pickle of protocol 4, {month: {frame: {"boxes", "labels"}}}. Every frame of a month must be in it; a
frame without detections has a single box of zeros with label 0.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxdet.data.datasets import ltd
from jaxdet.detections import files
from jaxdet.errors import InputError
from jaxdet.evaluation.months import MONTHS
from jaxdet.files import finished
from jaxdet.formats import BoxFile, names, pickle, plain_pickle

# Number of frames of each test month of LTD.
NUM_FRAMES = {
    "Jan": 48272, "Mar": 69889, "Apr": 71750, "May": 44910, "Jun": 59618, "Jul": 19006, "Aug": 55281,
    "Sep": 184,
}  # fmt: skip

_DATED = re.compile(r"\d{4}(0[1-9]|1[0-2])\d\d_")


def month_of(path: str | os.PathLike) -> str:
    """Month of a file of detections: its name up to the first "." or "_"; InputError for any other name."""
    month = re.split(r"[._]", Path(path).name, maxsplit=1)[0]
    for known in MONTHS:
        if month.lower() == known.lower():
            return known
    raise InputError(f"{path}: month {month!r}; expected a name that begins with {', '.join(MONTHS)}")


def list_frames(data: str | os.PathLike, month: str) -> list[str]:
    """Frame keys of a month below the root of LTD, sorted.

    Looks for `[Test/]<month>/frames/<date>/<clip>/image_NNNN.jpg`, then for
    `[Test/]<month>/images/<key>.jpg`. Raises InputError if there are none.
    """
    return sorted(frame_paths(data, month))


def frame_paths(data: str | os.PathLike, month: str) -> dict[str, Path]:
    """Image file of each frame key of a month; see `list_frames`. InputError if there are none."""
    roots = [root for root in (Path(data) / "Test" / month, Path(data) / month) if root.is_dir()]
    for root in roots:
        if (root / "frames").is_dir():
            return {frame.key: frame.image for frame in ltd.find_frames(root)}
        flat = {p.stem: p for p in finished(root.glob("images/*.jpg"), root)}
        if flat:
            return flat
    where = roots[0] if roots else Path(data) / "Test" / month
    raise InputError(
        f"{where}: no frames of {month}; expected frames/<date>/<clip>/image_NNNN.jpg in this folder"
    )


def read_detections(path: str | os.PathLike) -> BoxFile:
    """Detections of a month; those of an .h5 file are rounded to 3 decimals, as in a released pickle."""
    found = files.read(path)
    if files.format_of(path) == "h5":
        found = found._replace(frames=[pickle.rounded(boxes) for boxes in found.frames])
    return found


def merge(parts: Iterable[tuple[str, BoxFile]]) -> dict[str, dict[str, Any]]:
    """Entries {month: {frame key: entry}} of pairs (month, detections).

    Raises InputError for a frame that comes twice, or whose date is in another month.
    """
    merged: dict[str, dict[str, Any]] = {}
    for month, found in parts:
        target = merged.setdefault(month, {})
        for boxes in found.frames:
            key = names.stem(boxes)
            if _DATED.match(key) and ltd.MONTHS[int(key[4:6]) - 1] != month:
                raise InputError(
                    f"{month}: frame {key} is of {ltd.MONTHS[int(key[4:6]) - 1]}; "
                    "give the file the name of its month"
                )
            if key in target:
                raise InputError(f"{month}: frame {key} comes twice; expected each frame in one file")
            # Parity: the released Seq-NMS writes numpy.float64, the removal of low scores float.
            target[key] = pickle.entry(boxes, numpy_numbers=found.metadata.get("rule") == "seqnms")
    return merged


def fill(month: str, entries: dict[str, Any], listing: Sequence[str]) -> int:
    """Add the frames of `listing` that are missing, without detections; returns their number.

    Raises InputError for a prediction of a frame that is not listed.
    """
    known = set(listing)
    for key in entries:
        if key not in known:
            raise InputError(f"{month}: prediction for {key}, which is not among its {len(known)} frames")
    missing = [key for key in listing if key not in entries]
    for key in missing:
        entries[key] = {name: list(value) for name, value in pickle.PLACEHOLDER.items()}
    return len(missing)


def check_counts(content: Mapping[str, Mapping[str, Any]], expected: Mapping[str, int] | None = None) -> None:
    """Raise InputError for an unknown month or a wrong number of frames.

    `expected` is the number of frames of each month, by default that of the challenge.
    """
    expected = NUM_FRAMES if expected is None else expected
    for month, entries in content.items():
        if month not in expected:
            raise InputError(f"month {month!r}; expected one of {', '.join(expected)}")
        if len(entries) != expected[month]:
            raise InputError(
                f"{month}: {len(entries)} frames, expected {expected[month]}; "
                "give --data to fill in frames without detections"
            )


def write(path: str | os.PathLike, content: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a submission."""
    plain_pickle.dump(path, {month: dict(entries) for month, entries in content.items()})


def read(path: str | os.PathLike) -> dict[str, BoxFile]:
    """Read the boxes of each month of a submission; InputError if the file is not a submission."""
    content = plain_pickle.load(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: a {type(content).__name__}, expected a dictionary of months")
    for month in content:
        if month not in MONTHS:
            raise InputError(f"{path}: month {ascii(month)[:80]}; expected one of {', '.join(MONTHS)}")
    return {month: pickle.from_dict(entries, f"{path}: {month}") for month, entries in content.items()}
