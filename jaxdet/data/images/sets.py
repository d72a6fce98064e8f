"""Images of a set: folders, list files, COCO annotations, videos."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from jaxdet.errors import InputError
from jaxdet.formats.text import read_text
from jaxdet.structs import Boxes

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg")


class ImageItem(NamedTuple):
    """One image of a set."""

    path: Path
    name: str  # name of its predictions
    image_id: int | str  # of the COCO json, else the position in the set
    size: tuple[int, int] | None  # height, width if the set states them
    source: str = ""  # path relative to the folder or list that named it, with /


def from_folder(folder: str | Path) -> list[ImageItem]:
    """All images below a folder, sorted by path. Raises InputError if there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected one of images; check the path")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: no image below it, expected some ({', '.join(IMAGE_SUFFIXES)})")
    return [ImageItem(p, p.stem, i, None, p.relative_to(folder).as_posix()) for i, p in enumerate(paths)]


def from_list(file: str | Path) -> list[ImageItem]:
    """The images that a text file names, one path per line, relative to the folder of the file.

    Raises InputError if the file is missing or names no image.
    """
    file = Path(file)
    if not file.is_file():
        raise InputError(f"{file}: no such file, expected a list of images; check the path")
    lines = [line.strip() for line in read_text(file, "a list of images").splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{file}: names no image, expected one path per line")
    paths = sorted(file.parent / line for line in lines)
    root = file.parent
    if any(not p.is_relative_to(root) or ".." in p.parts for p in paths):
        root = os.path.commonpath([os.path.abspath(p.parent) for p in paths])
    return [
        ImageItem(p, p.stem, i, None, Path(os.path.relpath(p, root)).as_posix()) for i, p in enumerate(paths)
    ]


def line_of(file: Path, image: Path) -> str:
    """`file:number` of the line of a list that names an image."""
    for number, line in enumerate(read_text(file, "a list of images").splitlines(), 1):
        if file.parent / line.strip() == image:
            return f"{file}:{number}"
    raise ValueError(f"{image} is not in {file}")


def from_coco(frames: Sequence[Boxes], folder: str | Path) -> tuple[list[ImageItem], list[str]]:
    """Images of COCO annotations that exist in `folder`, and the names of the missing ones."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected one of images; check the path")
    items, missing = [], []
    for boxes in frames:
        path = folder / boxes.source
        if boxes.source and path.is_file():
            assert boxes.image_id is not None
            items.append(ImageItem(path, path.stem, boxes.image_id, boxes.image_size, boxes.source))
        else:
            missing.append(boxes.source or f"image {boxes.image_id}, which has no file name")
    return items, missing


def open_input(source: str | Path) -> list[ImageItem]:
    """Images of an image file, a folder, or a list (.txt). Raises InputError for any other `source`."""
    source = Path(source)
    if source.is_dir():
        return from_folder(source)
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return [ImageItem(source, source.stem, 0, None, source.name)]
    if source.suffix.lower() == ".txt":
        return from_list(source)
    raise InputError(f"{source}: expected an image, a folder of images, a .txt list or a video")


def is_video(source: str | Path) -> bool:
    """True if the suffix is that of a video file."""
    return Path(source).suffix.lower() in VIDEO_SUFFIXES


class VideoFile:
    """Reader of the frames of a video file, in order, uint8 [H, W, 3] blue first.

    `cut_short` is set when the file ends before the number of frames in its header. Raises InputError for a
    file that is missing or cannot be decoded.
    """

    def __init__(self, path: str | Path):
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file, expected a video; check the path")
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise InputError(
                f"{path}: OpenCV cannot decode it, expected a video; convert it, to .mp4 for example"
            )
        self.path = Path(path)
        self.frame_rate = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        self.num_frames = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.size = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        )
        self.cut_short = False

    def __iter__(self) -> Iterator[np.ndarray]:
        count = 0
        while True:
            ok, frame = self._capture.read()
            if not ok:
                break
            count += 1
            yield frame
        self.cut_short = count < self.num_frames
        self._capture.release()


def label_path(image: Path) -> Path:
    """Label file of an image: `.../images/.../x.jpg` has `.../labels/.../x.txt`.

    The last folder called "images" is replaced; without one the label lies beside the image.
    """
    parts = list(image.parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if not places:
        return image.with_suffix(".txt")
    parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")
