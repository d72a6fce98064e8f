"""Detections before and after a step of post-processing, side by side on a plain canvas."""

import os
from collections.abc import Sequence

import numpy as np

from jaxdet.detections.predictions import Predictions
from jaxdet.errors import InputError
from jaxdet.postprocess.seqnms import Frame
from jaxdet.viewing import drawing

_CANVAS = 40  # grey level
_EMPTY = Frame(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))


def draw(
    path: str | os.PathLike,
    before: Predictions,
    after: Predictions,
    class_names: Sequence[str] = (),
    fps: float = 10.0,
) -> None:
    """Write a video (.mp4, .webm, .avi), or as picture (.png, .jpg) the frame in which most boxes came or went."""
    size = _size([before, after])
    labels = [frame.labels.max(initial=0) for found in (before, after) for frame in found.frames.values()]
    names = [*class_names, *(f"class {i}" for i in range(len(class_names), max(labels, default=0) + 1))]
    with drawing.open_sink(path, fps) as sink:
        for keys in before.clips.values():
            for key in keys:
                frames = [found.frames.get(key, _EMPTY) for found in (before, after)]
                canvas = np.full((size[1], size[0], 3), _CANVAS, np.uint8)
                halves = [drawing.draw(canvas, *frame, names) for frame in frames]
                counts = [len(frame.scores) for frame in frames]
                sink(np.concatenate(halves, axis=1), abs(counts[0] - counts[1]) + 1)


def _size(parts: Sequence[Predictions]) -> tuple[int, int]:
    """Width and height that hold all boxes, even numbers, as video encoders want."""
    corners = [
        frame.boxes[:, 2:].max(0) for found in parts for frame in found.frames.values() if len(frame.scores)
    ]
    if not corners:
        raise InputError("no boxes to draw; expected at least one")
    width, height = np.ceil(np.max(corners, axis=0) / 2).astype(int) * 2 + 2
    return int(width), int(height)
