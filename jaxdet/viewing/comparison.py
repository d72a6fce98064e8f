"""Detections before and after a step of post-processing, side by side on a plain canvas."""

import os
from collections.abc import Sequence

import numpy as np

from jaxdet.errors import InputError
from jaxdet.formats import names
from jaxdet.structs import Boxes
from jaxdet.viewing import drawing

_CANVAS = 40  # grey level


def draw(
    path: str | os.PathLike,
    before: Sequence[Boxes],
    after: Sequence[Boxes],
    class_names: Sequence[str] = (),
    fps: float = 10.0,
) -> None:
    """Write a video (.mp4, .webm, .avi), or a picture (.png, .jpg) of the frame whose box count changed most.

    Frames are matched by name. Raises InputError if no frame has boxes.
    """
    width, height = _size([*before, *after])
    kept = {names.file_name(boxes): boxes for boxes in after}
    with drawing.open_sink(path, fps) as sink:
        for rows in names.by_clip(before).values():
            for boxes in (before[row] for row in rows):
                pair = boxes, kept.get(names.file_name(boxes), boxes.take(slice(0)))
                canvas = np.full((height, width, 3), _CANVAS, np.uint8)
                halves = [drawing.draw(canvas, frame, class_names) for frame in pair]
                sink(np.concatenate(halves, axis=1), abs(len(pair[0]) - len(pair[1])) + 1)


def _size(frames: Sequence[Boxes]) -> tuple[int, int]:
    """Width and height, pixels, that hold all boxes; even numbers, as video encoders require."""
    corners = [boxes.xyxy[:, 2:].max(0) for boxes in frames if len(boxes)]
    if not corners:
        raise InputError("no boxes to draw; expected at least one")
    width, height = np.ceil(np.max(corners, axis=0) / 2).astype(int) * 2 + 2
    return int(width), int(height)
