"""Predictions as pictures and videos: boxes over images, or over the events of a recording."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from jaxdet.errors import InputError
from jaxdet.files import safe_path
from jaxdet.formats import names
from jaxdet.structs import Boxes
from jaxdet.viewing import drawing, video_files


@contextmanager
def of_images(
    path: str | os.PathLike, class_names: Sequence[str], fps: float, min_score: float
) -> Iterator[Callable[[np.ndarray, Boxes], None]]:
    """Yield a function that draws images with boxes into a video, a picture file, or a folder (no suffix).

    A picture in a folder has the path of its image, with the suffix .jpg. Raises InputError for images of
    different sizes in a video.
    """
    path = Path(path)

    def drawn(image: np.ndarray, boxes: Boxes) -> np.ndarray:
        return drawing.draw(image, boxes, class_names, drawing.scale_of(image.shape[1]), min_score)

    if not path.suffix:
        yield lambda image, boxes: drawing.write_picture(
            path / f"{safe_path(names.path_name(boxes), 'name of an image')}.jpg", drawn(image, boxes)
        )
        return
    sizes: set[tuple[int, ...]] = set()
    with drawing.open_sink(path, fps) as sink:

        def take(image: np.ndarray, boxes: Boxes) -> None:
            sizes.add(image.shape[:2])
            if len(sizes) > 1 and path.suffix.lower() in video_files.CODECS:
                raise InputError(
                    f"{path}: images of different sizes, and a video has one size; give --render a folder"
                )
            sink(drawn(image, boxes), int((boxes.scores >= min_score).sum()))

        yield take


def over_video(
    path: str | os.PathLike,
    pictures: Iterable[np.ndarray],
    by_frame: Mapping[int, Boxes],
    class_names: Sequence[str],
    fps: float,
    min_score: float,
) -> int:
    """Draw the boxes of each frame number, counted from 0, on the pictures of a video; return their number.

    Frames without boxes are shown as they are.
    """
    count = 0
    with of_images(path, class_names, fps, min_score) as draw:
        for picture in pictures:
            draw(picture, by_frame.get(count, Boxes.none(source="frame", frame=count)))
            count += 1
    return count


@contextmanager
def of_events(
    path: str | os.PathLike,
    size: tuple[int, int],
    class_names: Sequence[str],
    step_us: int,
    stride: int,
    min_score: float,
) -> Iterator[Callable[[Sequence[np.ndarray], Boxes], None]]:
    """Yield a function that draws events (x, y, polarity) and boxes, step by step, into a real-time video.

    The video has a picture every `stride` steps of `step_us`; `size` is (height, width). InputError if
    `stride` is below 1.
    """
    if stride < 1:
        raise InputError(f"a picture every {stride} steps, expected 1 or more")
    with drawing.open_sink(path, fps=1e6 / (step_us * stride)) as sink:
        pictures = drawing.EventSink(sink, size, class_names, stride, min_score)

        def take(events: Sequence[np.ndarray], boxes: Boxes) -> None:
            x, y, polarity = events
            pictures.add(x, y, polarity, boxes)

        yield take
        pictures.close()
