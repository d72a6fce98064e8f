"""Images of a set: folders, list files, COCO annotations, videos."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from jaxdet.data.images import containers
from jaxdet.errors import InputError
from jaxdet.formats import names
from jaxdet.formats.text import read_text
from jaxdet.structs import Boxes, ReadReport

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts",
    ".wmv", ".asf", ".flv", ".ogv", ".mjpg", ".mjpeg", ".h264", ".264", ".h265", ".265", ".hevc", ".y4m",
)  # fmt: skip
# Pictures that OpenCV does not decode: they are named, other files beside images are labels and notes.
_OTHER_PICTURES = (
    ".heic", ".heif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".raw", ".psd", ".svg",
    ".exr", ".dcm", ".fits", ".seq", ".zip", ".tar", ".gz",
)  # fmt: skip


class ImageItem(NamedTuple):
    """One image of a set."""

    path: Path
    name: str  # name of its predictions
    image_id: int | str  # of the COCO json, else the position in the set
    size: tuple[int, int] | None  # height, width if the set states them
    source: str = ""  # path relative to the folder or list that named it, with /


def from_folder(folder: str | Path, report: ReadReport | None = None) -> list[ImageItem]:
    """All images below a folder, sorted by path; links to folders are followed.

    A file is an image by its suffix, or else by its first bytes. Hidden files and folders are no images.
    `report` counts pictures and videos that are left out. Raises InputError if there is no image.
    """
    folder, report = Path(folder), ReadReport() if report is None else report
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected one of images; check the path")
    paths = sorted(path for path in _files(folder, report) if _is_image(path, report))
    if not paths:
        why = f" ({report.line()})" if report else ""
        raise InputError(f"{folder}: no image below it{why}, expected some (.jpg, .png, .tiff, .webp, ...)")
    return [ImageItem(p, p.stem, i, None, p.relative_to(folder).as_posix()) for i, p in enumerate(paths)]


def _files(folder: Path, report: ReadReport) -> Iterator[Path]:
    """Files below a folder whose names are not hidden; every folder is entered once, however often linked."""
    seen = {os.path.realpath(folder)}

    def failed(error: OSError) -> None:
        report.add("folders that cannot be entered", where=f"{error.filename}: {error.strerror}")

    for place, inside, names_ in os.walk(folder, followlinks=True, onerror=failed):
        report.note("hidden files, which were passed over", sum(name.startswith(".") for name in names_))
        entered = []
        for name in sorted(inside):
            real = os.path.realpath(os.path.join(place, name))
            if name.startswith("."):
                continue
            if real in seen:
                report.note("links to folders that were entered already", where=os.path.join(place, name))
                continue
            seen.add(real)
            entered.append(name)
        inside[:] = entered
        yield from (Path(place, name) for name in names_ if not name.startswith("."))


def _is_image(path: Path, report: ReadReport) -> bool:
    suffix = path.suffix.lower()
    if suffix in names.IMAGE_SUFFIXES:
        return True
    if suffix in VIDEO_SUFFIXES:
        report.add("videos in a folder of images (give each as --input)", where=str(path))
    elif suffix in _OTHER_PICTURES:
        report.add(f"{suffix} files, which OpenCV cannot decode (convert them)", where=str(path))
    elif suffix in (".txt", ".json", ".xml", ".csv", ".yaml", ".yml", ".md", ".npy", ".cache"):
        return False
    elif has_image_content(path):
        return True
    return False


def has_image_content(path: Path) -> bool:
    """True if the first bytes of a file are those of an image that OpenCV decodes."""
    try:
        return path.is_file() and bool(cv2.haveImageReader(str(path)))
    except cv2.error:
        return False


def from_list(file: str | Path, report: ReadReport | None = None) -> list[ImageItem]:
    """The images that a text file names, one path per line.

    Paths are relative to the folder of the file, else to the one above it, else to the working folder: the
    first of these in which the first image exists. `report` notes which one it was if not the first, and
    images that are named twice. Raises InputError if the file is missing or names no image.
    """
    file = Path(file)
    lines = _lines(file)
    named = [line for line in lines if line]
    if not named:
        raise InputError(f"{file}: names no image, expected one path per line")
    base, distinct = _base(file, lines), dict.fromkeys(named)
    if report is not None:
        report.note("lines of a list that name an image again", len(named) - len(distinct), str(file))
        if base != file.parent:
            report.note(f"paths of a list, relative to {base}", len(distinct), str(file))
    paths = sorted({base / line for line in distinct})
    root = base
    if any(not p.is_relative_to(root) or ".." in p.parts for p in paths):
        root = os.path.commonpath([os.path.abspath(p.parent) for p in paths])
    return [
        ImageItem(p, p.stem, i, None, Path(os.path.relpath(p, root)).as_posix()) for i, p in enumerate(paths)
    ]


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise InputError(f"{file}: no such file, expected a list of images; check the path")
    return [line.strip() for line in read_text(file, "a list of images").splitlines()]


def _base(file: Path, lines: list[str]) -> Path:
    """The folder that the paths of a list start from."""
    first = next((line for line in lines if line), "")
    bases = (file.parent, file.parent.parent, Path.cwd())
    return next((base for base in bases if (base / first).is_file()), file.parent)


def line_of(file: Path, image: Path) -> str:
    """`file:number` of the line of a list that names an image."""
    lines = _lines(file)
    base = _base(file, lines)
    for number, line in enumerate(lines, 1):
        if base / line == image:
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


def open_input(source: str | Path, report: ReadReport | None = None) -> list[ImageItem]:
    """Images of an image file, a folder, or a list (.txt). Raises InputError for any other `source`.

    `report` counts what is left out.
    """
    source = Path(source)
    if source.is_dir():
        return from_folder(source, report)
    if source.suffix.lower() == ".txt":
        return from_list(source, report)
    if source.suffix.lower() in names.IMAGE_SUFFIXES or has_image_content(source):
        return [ImageItem(source, source.stem, 0, None, source.name)]
    raise InputError(f"{source}: expected an image, a folder of images, a .txt list or a video")


def is_video(source: str | Path) -> bool:
    """True if `source` is a video, by its suffix or else by its content; a GIF of several pictures is one."""
    source = Path(source)
    suffix = source.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return True
    if suffix == ".gif":
        return source.is_file() and _num_frames(source, 2) > 1
    if suffix in (*names.IMAGE_SUFFIXES, ".txt") or not source.is_file() or has_image_content(source):
        return False
    if not source.stat().st_size:
        return False
    return _num_frames(source, 1) > 0


def _num_frames(path: Path, most: int) -> int:
    """Number of frames that can be decoded, counted up to `most`."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        return next((count for count in range(most) if not capture.grab()), most)
    finally:
        capture.release()


class VideoFile:
    """Reader of the frames of a video file, in order, uint8 [H, W, 3] blue first.

    The frames are those that can be decoded; `num_frames` is the number in the header, which may be wrong.
    `cut_short` is set when the file ends before its container says. Raises InputError for a file that is
    missing or has no frame that can be decoded.
    """

    def __init__(self, path: str | Path):
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file, expected a video; check the path")
        capture = cv2.VideoCapture(str(path))
        first = _next_frame(capture) if capture.isOpened() else None
        if first is None:
            raise InputError(
                f"{path}: no frame of it can be decoded, expected a video; convert it, to .mp4 for example"
            )
        self.path = Path(path)
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.frame_rate = rate if 0 < rate < 1000 else 25.0
        self.num_frames = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.size = first.shape[:2]
        self.cut_short = False
        capture.release()

    def __iter__(self) -> Iterator[np.ndarray]:
        count, capture = 0, cv2.VideoCapture(str(self.path))
        while (frame := _next_frame(capture)) is not None:
            count += 1
            yield frame
        self.cut_short = containers.is_cut_short(self.path)
        if count != self.num_frames:
            logger.info("%s: %d frames, %d in its header", self.path, count, self.num_frames)
        capture.release()


def _next_frame(capture: cv2.VideoCapture) -> np.ndarray | None:
    """The next frame that can be decoded, None after the last."""
    try:
        ok, frame = capture.read()
    except cv2.error:
        return None
    return frame if ok else None


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
