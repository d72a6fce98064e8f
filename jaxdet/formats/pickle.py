"""The pickle of the released Seq-YOLO, a dictionary of the boxes of each frame by its name.

Its form is {name: {"boxes": [[x1, y1, x2, y2], ...], "labels": [...], "scores": [...]}}.

The released test writes boxes of 3 decimals and scores of 5, and leaves out images without boxes. What the
released Seq-NMS writes has no scores: a challenge wants it so, and rows rank by their order. Frames are
called by the name of their image without folder and suffix, `<clip>_<number>`.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxdet.errors import InputError
from jaxdet.formats import BoxFile, arrays, names, plain_pickle
from jaxdet.structs import Boxes, ReadReport

PLACEHOLDER = {"boxes": [[0, 0, 0, 0]], "labels": [0]}  # of a frame without boxes where scores are missing


def rounded(boxes: Boxes) -> Boxes:
    """Boxes as a released pickle holds them: 3 decimals, scores of 5, float64."""
    return replace(
        boxes,
        xyxy=boxes.xyxy.astype(np.float64).round(3),
        scores=boxes.scores.astype(np.float64).round(5),
        file_xywh=None,
    )


def entry(boxes: Boxes, numpy_numbers: bool) -> dict[str, list]:
    """A frame without scores: boxes and labels, one box of zeros if it has none.

    Parity: with `numpy_numbers` coordinates are numpy.float64, as the released Seq-NMS leaves them, not
    float.
    """
    if not len(boxes):
        return {name: list(value) for name, value in PLACEHOLDER.items()}
    xyxy = boxes.xyxy.astype(np.float64)
    return {
        "boxes": [list(row) for row in xyxy] if numpy_numbers else xyxy.tolist(),
        "labels": boxes.labels.tolist(),
    }


def scored_entry(boxes: Boxes) -> dict[str, list]:
    """A frame as the released test writes it."""
    boxes = rounded(boxes)
    return {
        "boxes": boxes.xyxy.tolist(),
        "labels": boxes.labels.tolist(),
        "scores": boxes.scores.tolist(),
    }


def write(path: str | os.PathLike, frames: Sequence[Boxes]) -> None:
    """Write frames with scores, as the released test does; those without boxes are left out."""
    names.check_stems([names.file_name(boxes) for boxes in frames], path)
    plain_pickle.dump(path, {names.stem(boxes): scored_entry(boxes) for boxes in frames if len(boxes)})


def write_without_scores(path: str | os.PathLike, frames: Sequence[Boxes], numpy_numbers: bool) -> None:
    """Write frames as the released Seq-NMS does (`numpy_numbers`), or the released removal of low scores."""
    names.check_stems([names.file_name(boxes) for boxes in frames], path)
    plain_pickle.dump(path, {names.stem(boxes): entry(boxes, numpy_numbers) for boxes in frames})


def read(path: str | os.PathLike) -> BoxFile:
    """Frames in the order of the file, in float64. Nothing but plain containers and numbers is unpickled."""
    return from_dict(plain_pickle.load(path), str(path))


def from_dict(content: Any, where: str) -> BoxFile:
    """Frames of a released pickle's dictionary; `metadata` has rule "seqnms" if numbers are NumPy's.

    InputError for a frame without scores among frames that have them, unless it is a placeholder.
    """
    if not isinstance(content, dict):
        raise InputError(f"{where}: a {type(content).__name__}, expected a dictionary of frames")
    scored = ["scores" in value for value in content.values() if isinstance(value, dict)]
    has_scores = any(scored) or not scored
    frames, numpy_numbers = [], False
    for key, value in content.items():
        if not isinstance(key, str) or not key.isprintable():
            raise InputError(f"{where}: frame key {ascii(key)[:80]}; expected text, <clip>_<frame number>")
        frames.append(_frame(key, value, has_scores, f"{where}: {key[:80]}"))
        if len(frames[-1]) and not numpy_numbers:
            numpy_numbers = isinstance(np.ravel(np.asarray(value["boxes"][0], object))[0], np.floating)
    return BoxFile(frames, (), has_scores, ReadReport(), {"rule": "seqnms"} if numpy_numbers else {})


def _frame(key: str, value: Any, has_scores: bool, where: str) -> Boxes:
    try:
        if "scores" not in value and value["boxes"] == PLACEHOLDER["boxes"]:
            return Boxes.none(source=key)
        if has_scores and "scores" not in value:
            raise ValueError("a frame without scores, which others have")
        xyxy = _numbers(value["boxes"], "boxes").reshape(-1, 4)
        labels = arrays.whole_numbers(_numbers(value["labels"], "labels").ravel(), "label", 0, 2**31)
        scores = _numbers(value["scores"], "scores").ravel() if has_scores else np.ones(len(labels))
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        found = f"{type(error).__name__} {ascii(str(error))[1:-1][:80]}"
        raise InputError(f"{where}: {found}; expected boxes, labels and perhaps scores as lists") from error
    if not len(xyxy) == len(scores) == len(labels):
        raise InputError(
            f"{where}: {len(xyxy)} boxes, {len(scores)} scores, {len(labels)} labels; "
            "expected as many of each"
        )
    return Boxes(xyxy, scores, labels.astype(np.int32), source=key)


def _numbers(value: Any, what: str) -> np.ndarray:
    """float64 of nested lists of numbers; ValueError for text, which NumPy would parse."""
    found = np.asarray(value)
    if found.size and found.dtype.kind not in "iuf":
        raise ValueError(f"{what} of type {found.dtype}, not numbers")
    return found.astype(np.float64)
