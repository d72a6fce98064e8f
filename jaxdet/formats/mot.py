"""MOT challenge text of one clip, frames from 1: a line is frame, id, left, top, width, height, score, label.

The eighth column is the index of the class where it is a whole number from 0; -1, which most tools write, is
class 0.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from jaxdet.errors import InputError
from jaxdet.files import atomic
from jaxdet.formats import BoxFile, names
from jaxdet.structs import Boxes, ReadReport


def read(path: str | os.PathLike) -> BoxFile:
    """Frames in order of their first line; `source` is the file's name. InputError names a bad line."""
    path = Path(path)
    rows: dict[int, list[tuple]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip():
            frame, row = _row(line, f"{path}:{number}")
            rows.setdefault(frame, []).append(row)
    frames = [
        Boxes.of_xywh(*zip(*found), source=path.stem, frame=frame)  # pyright: ignore[reportArgumentType]
        for frame, found in rows.items()
    ]
    return BoxFile(frames, (), True, ReadReport())


def _row(line: str, where: str) -> tuple[int, tuple]:
    try:
        frame, _, left, top, width, height, score, *rest = (float(field) for field in line.split(","))
    except ValueError as error:
        raise InputError(
            f"{where}: {line.strip()!r}; expected frame, id, left, top, width, height, score"
        ) from error
    label = rest[0] if rest else 0
    if label != int(label) or frame != int(frame):
        raise InputError(f"{where}: frame {frame:g}, label {label:g}; expected whole numbers")
    return int(frame), ((left, top, width, height), score, max(int(label), 0))


def write(path: str | os.PathLike, frames: Sequence[Boxes]) -> None:
    """Write the frames of one clip; frames without boxes leave no line. InputError for a second clip."""
    if len(clips := names.by_clip(frames)) > 1:
        raise InputError(
            f"{path}: {len(clips)} clips, and MOT text holds one; write .npz or .csv, or one clip a file"
        )
    with atomic(path) as temporary, open(temporary, "w") as file:
        for boxes in frames:
            _, number = names.clip_and_number(boxes)
            for row, score, label in zip(boxes.xywh.tolist(), boxes.scores.tolist(), boxes.labels.tolist()):
                file.write(f"{number},-1,{','.join(map(repr, row))},{score!r},{label},-1,-1\n")
