"""Which images there are and what is labelled on them: folders, list files, COCO json, YOLO txt, videos."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from jaxdet.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg")


class ImageItem(NamedTuple):
    """One image of a set."""

    path: Path
    name: str  # what predictions are filed under
    image_id: int  # of the COCO json, else the position in the set
    size: tuple[int, int] | None  # height, width where the set says so
    source: str = ""  # path relative to the folder or list that named it, with /


def from_folder(folder: str | Path) -> list[ImageItem]:
    """All images below a folder, sorted by path."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return [ImageItem(p, p.stem, i, None, p.relative_to(folder).as_posix()) for i, p in enumerate(paths)]


def from_list(file: str | Path) -> list[ImageItem]:
    """The images a text file names, a path a line; `./` stands for the folder of the file."""
    file = Path(file)
    if not file.is_file():
        raise InputError(f"{file}: no such list of images")
    lines = [line.strip() for line in file.read_text().splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{file}: names no image")
    paths = sorted(file.parent / line for line in lines)
    root = file.parent
    if any(not p.is_relative_to(root) or ".." in p.parts for p in paths):
        root = os.path.commonpath([os.path.abspath(p.parent) for p in paths])
    return [
        ImageItem(p, p.stem, i, None, Path(os.path.relpath(p, root)).as_posix()) for i, p in enumerate(paths)
    ]


def line_of(file: Path, image: Path) -> str:
    """`file:number` of the line of a list that names an image."""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if file.parent / line.strip() == image:
            return f"{file}:{number}"
    raise ValueError(f"{image} is not in {file}")


def read_coco(file: str | Path) -> dict[str, Any]:
    """A COCO annotation file with the keys images, annotations, categories."""
    file = Path(file)
    try:
        data = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such annotation file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not JSON ({error}); expected COCO annotations") from error
    missing = [
        k for k in ("images", "annotations", "categories") if not isinstance(data, dict) or k not in data
    ]
    if missing:
        raise InputError(f"{file}: COCO annotations without {', '.join(missing)}")
    return data


def from_coco(data: dict[str, Any], folder: str | Path) -> tuple[list[ImageItem], list[str]]:
    """Images of COCO annotations that lie in `folder`, and the file names that are missing there."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")
    items, missing = [], []
    for image in data["images"]:
        path = folder / image["file_name"]
        if path.is_file():
            size = (image["height"], image["width"]) if "height" in image else None
            items.append(ImageItem(path, path.stem, image["id"], size, image["file_name"]))
        else:
            missing.append(image["file_name"])
    return items, missing


def open_input(source: str | Path) -> list[ImageItem]:
    """What `--input` names: an image, a folder, or a text file with a list."""
    source = Path(source)
    if source.is_dir():
        return from_folder(source)
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return [ImageItem(source, source.stem, 0, None, source.name)]
    if source.suffix.lower() == ".txt":
        return from_list(source)
    raise InputError(f"{source}: expected an image, a folder of images, a .txt list or a video")


def is_video(source: str | Path) -> bool:
    """Whether the name is that of a video file."""
    return Path(source).suffix.lower() in VIDEO_SUFFIXES


class Video:
    """Frames of a video file, in order, uint8 [H, W, 3] blue first.

    `cut_short` is set when the file ends before the number of frames its header promises.
    """

    def __init__(self, path: str | Path):
        if not Path(path).is_file():
            raise InputError(f"{path}: no such video")
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise InputError(f"{path}: not a video OpenCV can decode")
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
    """`.../images/.../x.jpg` -> `.../labels/.../x.txt`: the last folder called "images" is replaced."""
    parts = list(image.parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if not places:
        return image.with_suffix(".txt")
    parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def read_yolo_labels(path: str | Path, num_classes: int) -> np.ndarray:
    """Rows (class, xc, yc, w, h) of a label file, sides relative to the image -> float32 [M, 5].

    A missing file is an image without boxes. Raises InputError naming file and line.
    """
    path = Path(path)
    if not path.exists():
        return np.zeros((0, 5), np.float32)
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip():
            rows.append(_label_row(line.split(), f"{path}:{number}", num_classes))
    return np.asarray(rows, np.float32).reshape(-1, 5)


def _label_row(fields: Sequence[str], where: str, num_classes: int) -> list[float]:
    try:
        row = [float(field) for field in fields]
    except ValueError as error:
        raise InputError(f"{where}: {' '.join(fields)!r} is not numbers; expected class xc yc w h") from error
    if len(row) != 5:
        raise InputError(f"{where}: {len(row)} columns, expected 5: class xc yc w h")
    if row[0] != int(row[0]) or not 0 <= row[0] < num_classes:
        raise InputError(f"{where}: class {row[0]:g}, expected a whole number from 0 to {num_classes - 1}")
    if not all(0 <= v <= 1 for v in row[1:]):
        raise InputError(f"{where}: coordinates {row[1:]}, expected 0 to 1, relative to the image")
    return row
