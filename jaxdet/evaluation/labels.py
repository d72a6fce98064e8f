"""Ground truth as frames of `Boxes`: labels of recordings, and of images with YOLO text."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxdet.data.events.recordings import Recording
from jaxdet.data.images import decoding
from jaxdet.data.images.sets import ImageItem
from jaxdet.errors import InputError
from jaxdet.files import finished
from jaxdet.formats import npy
from jaxdet.structs import Boxes


def of_table(table: np.ndarray, name: str, where: str) -> list[Boxes]:
    """Frames of the recording `name` from its structured array of boxes (see `formats.npy`).

    A recording without boxes gives one frame without boxes and time. `where` is the name used in errors.
    """
    frames, _ = npy.frames_of(table, name, where)
    return frames or [Boxes.none(source=name)]


def of_recordings(recordings: Iterable[Recording]) -> list[Boxes]:
    """Labels of prepared recordings."""
    return [boxes for r in recordings for boxes in of_table(r.labels, r.name, r.name)]


def of_files(folder: str | os.PathLike) -> list[Boxes]:
    """Boxes of every `.npy` label file in `folder`, with the name of their recording as source."""
    tables = finished(Path(folder).glob("*.npy"), folder)
    paths = [path for path in tables if path.name.endswith("_bbox.npy")] or tables
    if not paths:
        raise InputError(f"{folder}: no .npy label files; expected one per recording")
    return [
        boxes
        for path in paths
        for boxes in of_table(npy.read_table(path), npy.recording_name(path), str(path))
    ]


def of_images(
    items: Sequence[ImageItem], rows: Sequence[np.ndarray], class_names: Sequence[str] = ()
) -> list[Boxes]:
    """Labels of images from rows [M, 5] (class, then centre and size as fractions of the image).

    The size of an image is read from its file where the item does not give it.
    """
    return [
        of_image(item, labels, item.size or decoding.size_of(item.path), class_names)
        for item, labels in zip(items, rows, strict=True)
    ]


def of_image(
    item: ImageItem, rows: np.ndarray, size: tuple[int, int], class_names: Sequence[str] = ()
) -> Boxes:
    """Labels of an image of `size` (height, width), pixels, as float64 corners.

    `rows` [M, 5] have the class, then centre and size as fractions of the image.
    """
    x, y, w, h = rows[:, 1:].astype(np.float64).T
    height, width = size
    xyxy = np.stack([(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height], 1)
    labels = rows[:, 0].astype(np.int32)
    where = {"source": item.source, "image_size": size}
    return Boxes(xyxy, np.ones(len(rows), np.float32), labels, tuple(class_names), **where)
