"""MOT challenge text of one clip, frames from 1: a line is frame, id, left, top, width, height, score, label.

The id is the track of the box, -1 if it has none. The eighth column is the index of the class where it is a
whole number from 0; -1, which most tools write, is class 0.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet.errors import InputError
from jaxdet.files import atomic
from jaxdet.formats import BoxFile, names
from jaxdet.formats.text import read_text, shown
from jaxdet.structs import Boxes, ReadReport

_EXPECTED = "frame, id, left, top, width, height, score as finite numbers"


def read(path: str | os.PathLike, score_scale: float | None = None) -> BoxFile:
    """Frames in order of their first line; `source` is the file's name. InputError names a bad line.

    `score_scale` divides the scores, which then must lie in [0, 1]; None takes them as they are. The last
    three of 10 columns are coordinates in the world (MOT15) where the eighth is not whole in every line.
    """
    path, report = Path(path), ReadReport()
    lines = [
        (f"{path}:{number}", line.split(","))
        for number, line in enumerate(read_text(path, _EXPECTED).splitlines(), 1)
        if line.strip()
    ]
    numbers = [(where, _numbers(fields, where)) for where, fields in lines]
    world = any(len(row) == 10 and row[7] != int(row[7]) for _, row in numbers)
    report.note("lines whose last columns are coordinates in the world", len(numbers) if world else 0)
    rows: dict[int, list[tuple]] = {}
    for where, row in numbers:
        frame, values = _row(row[:7] if world else row, where, score_scale)
        rows.setdefault(frame, []).append(values)
    frames = []
    for frame, found in rows.items():
        ids, *columns = zip(*found)
        place: dict[str, Any] = {"source": path.stem, "frame": frame}
        if max(ids) > 0:
            place["track_ids"] = np.array(ids, np.int64)
        frames.append(Boxes.of_xywh(*columns, **place))  # pyright: ignore[reportArgumentType]
    return BoxFile(frames, (), True, report)


def _numbers(fields: Sequence[str], where: str) -> list[float]:
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        numbers = []
    if len(numbers) < 7 or not all(math.isfinite(number) for number in numbers):
        raise InputError(f"{where}: {shown(','.join(fields).strip())}; expected {_EXPECTED}")
    return numbers


def _row(numbers: Sequence[float], where: str, score_scale: float | None) -> tuple[int, tuple]:
    frame, track, left, top, width, height, score, *rest = numbers
    label = rest[0] if rest else 0
    if (
        track != int(track)
        or label != int(label)
        or frame != int(frame)
        or not 0 <= frame < 2**53
        or not -1 <= label < 2**31
        or abs(track) >= 2**53
    ):
        raise InputError(f"{where}: frame {frame:g}, id {track:g}, label {label:g}; expected whole numbers")
    if width < 0 or height < 0:
        raise InputError(f"{where}: a box of {width:g}x{height:g} pixels; expected positive sides")
    if score_scale is not None:
        score /= score_scale
        if not 0 <= score <= 1:
            raise InputError(
                f"{where}: score {score:g}, expected 0 to 1; --score_scale=N divides the scores by N"
            )
    return int(frame), (int(track), (left, top, width, height), score, max(int(label), 0))


def write(path: str | os.PathLike, frames: Sequence[Boxes]) -> None:
    """Write the frames of one clip; frames without boxes leave no line. InputError for a second clip."""
    if len(clips := names.by_clip(frames)) > 1:
        raise InputError(
            f"{path}: {len(clips)} clips, and MOT text holds one; write .npz or .csv, or one clip a file"
        )
    with atomic(path) as temporary, open(temporary, "w") as file:
        for boxes in frames:
            _, number = names.clip_and_number(boxes)
            ids = [-1] * len(boxes) if boxes.track_ids is None else boxes.track_ids.tolist()
            rows = zip(ids, boxes.xywh.tolist(), boxes.scores.tolist(), boxes.labels.tolist(), strict=True)
            for track, row, score, label in rows:
                file.write(f"{number},{track},{','.join(map(repr, row))},{score!r},{label},-1,-1\n")
