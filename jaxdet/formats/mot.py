"""MOT challenge text of one clip, frames from 1: a line is frame, id, left, top, width, height, score, label.

The id is the track of the box, -1 if it has none. The eighth column is the index of the class where it is a
whole number from 0; -1, which most tools write, is class 0.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

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
    frames = []
    for frame, found in rows.items():
        ids, *columns = zip(*found)
        where = {"source": path.stem, "frame": frame}
        where["track_ids"] = np.array(ids, np.int64) if max(ids) > 0 else None
        frames.append(Boxes.of_xywh(*columns, **where))
    return BoxFile(frames, (), True, ReadReport())


def _row(line: str, where: str) -> tuple[int, tuple]:
    try:
        frame, track, left, top, width, height, score, *rest = (float(field) for field in line.split(","))
    except ValueError as error:
        raise InputError(
            f"{where}: {line.strip()!r}; expected frame, id, left, top, width, height, score"
        ) from error
    label = rest[0] if rest else 0
    if track != int(track) or label != int(label) or frame != int(frame):
        raise InputError(f"{where}: frame {frame:g}, id {track:g}, label {label:g}; expected whole numbers")
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
