"""Submissions of LTDv2: a JSON object, {uid: {"boxes": [[x1, y1, x2, y2], ...], "scores", "labels"}}.

Boxes are pixels of the frame, labels count from 1. A frame without boxes is a key with three empty lists.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdet import class_names
from jaxdet.errors import InputError
from jaxdet.files import atomic
from jaxdet.formats import BoxFile
from jaxdet.formats.text import number, read_json, shown
from jaxdet.structs import Boxes, ReadReport

_FIELDS = ("boxes", "scores", "labels")
_EXPECTED = "a submission of LTDv2, an object of frames with boxes, scores and labels"


def read(path: str | os.PathLike) -> BoxFile:
    """Frames in the order of the file; `image_id` is the uid. InputError names a frame that is not whole."""
    frames = []
    for uid, entry in read_object(path).items():
        frames.append(_frame(entry, uid, f"{path}: frame {shown(uid)}"))
    return BoxFile(frames, class_names.LTDV2, True, ReadReport())


def read_object(path: str | os.PathLike) -> dict[str, Any]:
    """The object of frames; InputError for another JSON value."""
    content = read_json(path, _EXPECTED)
    if not isinstance(content, dict):
        raise InputError(f"{path}: a {type(content).__name__}; expected {_EXPECTED}")
    return content


def _frame(entry: Any, uid: str, where: str) -> Boxes:
    if not isinstance(entry, dict) or any(not isinstance(entry.get(name), list) for name in _FIELDS):
        raise InputError(f"{where}: expected the lists boxes, scores and labels")
    boxes, scores, labels = (entry[name] for name in _FIELDS)
    if not len(boxes) == len(scores) == len(labels):
        raise InputError(f"{where}: {len(boxes)} boxes, {len(scores)} scores, {len(labels)} labels")
    count = len(class_names.LTDV2)
    for box, score, label in zip(boxes, scores, labels):
        corners = box if isinstance(box, list) and len(box) == 4 else [None]
        if None in [number(value) for value in [*corners, score]]:
            raise InputError(f"{where}: a box or score that is not of finite numbers; expected x1 y1 x2 y2")
        if label not in range(1, count + 1):
            raise InputError(f"{where}: label {shown(label)}, expected 1 to {count}")
    if not uid.isdigit():
        raise InputError(f"{where}: expected a number of 17 digits as its key")
    return Boxes(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(scores, np.float64),
        np.array(labels, np.int32) - 1,
        class_names.LTDV2,
        image_id=int(uid),
    )


def write(path: str | os.PathLike, frames: Mapping[str, Boxes]) -> None:
    """Write the boxes of each uid, in this order."""
    content = {
        uid: {
            "boxes": boxes.xyxy.tolist(),
            "scores": boxes.scores.tolist(),
            "labels": (boxes.labels + 1).tolist(),
        }
        for uid, boxes in frames.items()
    }
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
