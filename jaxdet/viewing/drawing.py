"""Boxes drawn over event frames or images: pictures and videos.

Pictures are BGR uint8 [H, W, 3], as OpenCV reads and writes them.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from jaxdet.errors import InputError
from jaxdet.files import atomic
from jaxdet.structs import Boxes
from jaxdet.viewing import video_files

_CLASS_COLOURS = (
    (64, 200, 255),
    (120, 255, 120),
    (255, 160, 80),
    (220, 120, 255),
    (90, 110, 255),
    (255, 255, 90),
)
BACKGROUND = (30, 30, 30)
POLARITY_COLOURS = np.array([(170, 110, 60), (235, 235, 235)], np.uint8)  # off, on


_PICTURE_WIDTH = 912  # small pictures are enlarged to about this, so that names can be read


def scale_of(width: int) -> int:
    """Factor by which a picture of `width` pixels is enlarged, a whole number."""
    return max(1, round(_PICTURE_WIDTH / width))


class Sink(Protocol):
    """A function that takes pictures one after another."""

    def __call__(self, picture: np.ndarray, num_boxes: int, /) -> None: ...


def event_frame(x, y, polarity, size: tuple[int, int]) -> np.ndarray:
    """Picture of events; of two events at one pixel the later one is drawn.

    `x`, `y`, `polarity` (0 or 1) are [N] in order of time, `size` is (height, width).
    """
    picture = np.full((*size, 3), BACKGROUND, np.uint8)
    return add_events(picture, x, y, polarity)


def add_events(picture: np.ndarray, x, y, polarity) -> np.ndarray:
    """Draw events [N] into `picture` in place; those outside it are left out."""
    x, y, polarity = np.asarray(x, np.int64), np.asarray(y, np.int64), np.asarray(polarity, np.int64)
    inside = (x >= 0) & (y >= 0) & (x < picture.shape[1]) & (y < picture.shape[0])
    picture[y[inside], x[inside]] = POLARITY_COLOURS[polarity[inside]]
    return picture


def draw(
    picture,
    boxes: Boxes,
    class_names: Sequence[str] = (),
    scale: int = 1,
    min_score: float = 0.0,
    scores: bool = True,
) -> np.ndarray:
    """A copy of `picture`, enlarged by `scale`, with boxes, class names and scores.

    Boxes, in pixels of `picture`, are drawn if they score at least `min_score`. `class_names` are by default
    those of the boxes. Without `scores` the scores are not written. Boxes of a track have its number and
    its colour.
    """
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    named = tuple(class_names) or boxes.class_names
    # Boxes may lie far outside, and OpenCV takes coordinates of 16 bits.
    corners = np.clip(boxes.xyxy, -10_000 / scale, 10_000 / scale)
    # The best is drawn last, on top.
    for row in np.argsort(boxes.scores, kind="stable"):
        if boxes.scores[row] < min_score:
            continue
        label = int(boxes.labels[row])
        track = -1 if boxes.track_ids is None else int(boxes.track_ids[row])
        colour = _CLASS_COLOURS[(label if track < 0 else track) % len(_CLASS_COLOURS)]
        x1, y1, x2, y2 = (round(float(v) * scale) for v in corners[row])
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, 2)
        name = named[label] if label < len(named) else f"class_{label}"
        text = f"{name} {boxes.scores[row]:.2f}" if scores else name
        text = text if track < 0 else f"#{track} {text}"
        for tint, thickness in ((BACKGROUND, 3), (colour, 1)):  # outlined, to be legible on any background
            at = (x1 + 2, max(y1 - 4, 10))
            cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, tint, thickness, cv2.LINE_AA)
    return picture


def draw_boxes(image: Any, boxes: Boxes, min_score: float = 0.0) -> np.ndarray:
    """A copy of `image` with the boxes that score at least `min_score`: uint8 [H, W, 3], RGB.

    `image` is a path, or an array, uint8 [H, W] or [H, W, 3], RGB. Small images are enlarged so that class
    names are legible. Raises InputError for a file that is not an image, or for another array.
    """
    if isinstance(image, (str, os.PathLike)):
        picture = cv2.imread(str(image))
        if picture is None:
            raise InputError(f"{image}: not a readable image; expected a file such as .png or .jpg")
    else:
        picture = np.asarray(image)
        if picture.dtype != np.uint8 or picture.shape[2:] not in ((), (3,)) or picture.ndim < 2:
            raise InputError(
                f"an array {picture.dtype} {picture.shape}; expected an image, uint8 [H, W] or [H, W, 3]"
            )
        picture = np.repeat(picture[..., None], 3, 2) if picture.ndim == 2 else picture[..., ::-1]
    return draw(picture, boxes, scale=scale_of(picture.shape[1]), min_score=min_score)[..., ::-1]


@contextmanager
def open_sink(path: str | os.PathLike, fps: float) -> Iterator[Sink]:
    """Yield a function that adds pictures to a video (.mp4, .webm, .avi) or a picture file (.png, .jpg).

    A picture file gets the picture with the most boxes. The file appears when the block ends. Raises
    InputError if there was no picture, or for another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".png", ".jpg", ".jpeg"):
        yield from _best_picture(path)
    elif suffix in video_files.CODECS:
        yield from _video(path, fps, suffix)
    else:
        raise InputError(
            f"{path}: cannot render as {suffix or 'a file without suffix'}; use .mp4, .webm, .avi or .png"
        )


class EventSink:
    """Draws the events of `stride` steps into one picture, with the boxes of the last step.

    A recording of S steps gives S // stride pictures, or one if it is shorter. `size` is (height, width).
    """

    def __init__(
        self, sink: Sink, size: tuple[int, int], class_names: Sequence[str], stride: int, min_score: float
    ):
        self._sink, self._size, self._names = sink, size, class_names
        self._stride, self._min_score = stride, min_score
        self._scale = scale_of(size[1])
        self._step, self._picture, self._boxes = 0, self._empty(), Boxes.none()

    def add(self, x, y, polarity, boxes: Boxes) -> None:
        """Add one step: its events [N] and its boxes, of which those with at least `min_score` are drawn."""
        add_events(self._picture, x, y, polarity)
        self._step, self._boxes = self._step + 1, boxes
        if self._step % self._stride == 0:
            self._draw(boxes)

    def close(self) -> None:
        """Draw a recording that is shorter than a picture."""
        if 0 < self._step < self._stride:
            self._draw(self._boxes)

    def _draw(self, boxes: Boxes) -> None:
        drawn = draw(self._picture, boxes, self._names, self._scale, self._min_score)
        self._sink(drawn, int((boxes.scores >= self._min_score).sum()))
        self._picture = self._empty()

    def _empty(self):
        return event_frame([], [], [], self._size)


def _best_picture(path):
    best, most = None, -1

    def keep(picture, num_boxes):
        nonlocal best, most
        if num_boxes > most:
            best, most = picture, num_boxes

    yield keep
    if best is None:
        raise InputError(f"{path}: nothing to render: the input is shorter than one picture")
    write_picture(path, best)


def write_picture(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Write a picture in the format of the suffix; InputError if OpenCV cannot encode it."""
    encoded, data = cv2.imencode(Path(path).suffix, picture)
    if not encoded:
        raise InputError(f"{path}: OpenCV cannot encode this picture as {Path(path).suffix}")
    with atomic(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _video(path, fps, suffix):
    with atomic(path) as temporary:
        writer = None

        def write(picture, num_boxes):
            nonlocal writer
            del num_boxes
            if writer is None:
                writer = video_files.open_writer(temporary, path, fps, picture.shape[:2], suffix)
            writer.write(picture)

        try:
            yield write
        finally:
            if writer is not None:
                writer.release()
        if writer is None:
            raise InputError(f"{path}: nothing to render: the input is shorter than one picture")
