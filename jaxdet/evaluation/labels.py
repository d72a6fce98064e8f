"""Labels to compare with, each a frame of `Boxes`: of recordings, and of images in YOLO text."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxdet.data.events.recordings import Recording
from jaxdet.data.images import letterbox
from jaxdet.data.images.sets import ImageItem
from jaxdet.errors import InputError
from jaxdet.formats import npy
from jaxdet.structs import Boxes


def of_table(table: np.ndarray, name: str, where: str) -> list[Boxes]:
    """Frames of a recording's structured array of boxes; one without boxes and time if there are none."""
    frames, _ = npy.frames_of(table, name, where)
    return frames or [Boxes.none(source=name)]


def of_recordings(recordings: Iterable[Recording]) -> list[Boxes]:
    """Labels of prepared recordings."""
    return [boxes for r in recordings for boxes in of_table(r.labels, r.name, r.name)]


def of_files(folder: str | os.PathLike) -> list[Boxes]:
    """Boxes of every `.npy` label file in `folder`, by the names of their recordings."""
    paths = sorted(Path(folder).glob("*_bbox.npy")) or sorted(Path(folder).glob("*.npy"))
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
    """Labels of images from rows [M, 5] (class, centre and size as fractions); reads the size of every image."""
    return [
        of_image(item, labels, item.size or letterbox.size_of(item.path), class_names)
        for item, labels in zip(items, rows, strict=True)
    ]


def of_image(
    item: ImageItem, rows: np.ndarray, size: tuple[int, int], class_names: Sequence[str] = ()
) -> Boxes:
    """Labels of an image of `size` (height, width) from rows (class, centre and size as fractions), in float64."""
    x, y, w, h = rows[:, 1:].astype(np.float64).T
    height, width = size
    xyxy = np.stack([(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height], 1)
    labels = rows[:, 0].astype(np.int32)
    where = {"source": item.source, "image_size": size}
    return Boxes(xyxy, np.ones(len(rows), np.float32), labels, tuple(class_names), **where)
