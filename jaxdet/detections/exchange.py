"""Boxes in the forms that other libraries take."""

import logging
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxdet.detections import files
from jaxdet.errors import InputError
from jaxdet.structs import Boxes

logger = logging.getLogger(__name__)


def read_boxes(path: str | os.PathLike) -> list[Boxes]:
    """Boxes of a file or folder, frame by frame, by the suffix of `path`.

    Detections files (.h5), released .npy and .pkl, COCO results (.json), .npz, MOT text (.txt), .csv, or a
    folder of YOLO text. What is left out is logged in one line. Raises InputError for a file that cannot be
    read.
    """
    found = files.read(path)
    if found.report:
        logger.warning("%s", found.report.line(str(path)))
    return found.frames


def write_boxes(path: str | os.PathLike, boxes: Boxes | Iterable[Boxes]) -> None:
    """Write frames of one kind (images, frames of videos, or steps of recordings) by the suffix of `path`.

    Class names are those of the boxes. Raises InputError for a format that cannot hold such frames.
    """
    frames = [boxes] if isinstance(boxes, Boxes) else list(boxes)
    files.write(path, frames, max((frame.class_names for frame in frames), key=len, default=()))


def to_table(boxes: Boxes | Iterable[Boxes]) -> dict[str, list]:
    """Columns of all boxes of one frame or many, one row a box: `pandas.DataFrame(to_table(boxes))`.

    Columns: source, time_us, frame, x1, y1, x2, y2 (pixels), score, label, class_name.
    """
    frames = [boxes] if isinstance(boxes, Boxes) else boxes
    table: dict[str, list] = {
        name: []
        for name in ("source", "time_us", "frame", "x1", "y1", "x2", "y2", "score", "label", "class_name")
    }
    for frame in frames:
        for name in ("source", "time_us", "frame"):
            table[name] += [getattr(frame, name)] * len(frame)
        for column, name in enumerate(("x1", "y1", "x2", "y2")):
            table[name] += frame.xyxy[:, column].tolist()
        table["score"] += frame.scores.tolist()
        table["label"] += frame.labels.tolist()
        table["class_name"] += list(frame.names)
    return table


def to_supervision(boxes: Boxes) -> Any:
    """`supervision.Detections` of one frame. InputError if supervision is not installed."""
    try:
        import supervision  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("to_supervision needs supervision; pip install supervision") from error
    return supervision.Detections(
        xyxy=boxes.xyxy.astype(np.float32),
        confidence=boxes.scores.astype(np.float32),
        class_id=boxes.labels.astype(int),
        data={"class_name": np.array(boxes.names)},
    )
