"""Video files written picture by picture, by OpenCV or, where PyAV is installed, as H.264."""

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from jaxdet.errors import InputError

logger = logging.getLogger(__name__)

# The OpenCV wheel has no H.264 encoder. WebM plays in browsers; its VP8 takes six times as long as MPEG-4 in
# .mp4, its VP9 twenty times.
CODECS = {".mp4": "mp4v", ".webm": "VP80", ".avi": "MJPG"}


class VideoFileWriter(Protocol):
    """Takes pictures uint8 [H, W, 3], blue first; `release` finishes the file."""

    def write(self, picture: np.ndarray, /) -> Any: ...

    def release(self) -> None: ...


def open_writer(
    file: Path, shown: str | Path, fps: float, size: tuple[int, int], suffix: str
) -> VideoFileWriter:
    """Writer of a video of `size` (height, width) into `file`, whose final name is `shown`.

    `suffix` is one of CODECS. `.mp4` is H.264 with the extra `h264` and MPEG-4 part 2 without, which is said,
    as browsers do not play it. Raises InputError if this OpenCV cannot write the format.
    """
    if suffix == ".mp4" and find_spec("av") is not None:
        return _H264(file, fps, size)
    if suffix == ".mp4":
        logger.info(
            "%s: MPEG-4 part 2, which browsers do not play; name it .webm, or pip install 'jaxdet[h264]'",
            shown,
        )
    with _silent():
        writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*CODECS[suffix]), fps, size[::-1])
    if not writer.isOpened():
        raise InputError(
            f"{shown}: this OpenCV has no {CODECS[suffix]} encoder; use another of {', '.join(CODECS)}"
        )
    return writer


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing is written to standard error, by C code either.

    OpenCV would alarm users, past its own log level, with a note on the tags of WebM, which has none.
    """
    try:
        kept = os.dup(2)
    except OSError:  # a program started with `2>&-` has none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


class _H264:
    """H.264 in MP4 with the index at the front, as browsers want it; odd sides get a row or column more."""

    def __init__(self, file: Path, fps: float, size: tuple[int, int]):
        self._av: Any = importlib.import_module("av")
        self._odd = size[0] % 2, size[1] % 2
        self._file = self._av.open(str(file), "w", format="mp4", options={"movflags": "faststart"})
        rate = Fraction(fps).limit_denominator(1001)
        self._stream = self._file.add_stream(
            "libx264", rate=rate, options={"crf": "20", "preset": "veryfast"}
        )
        self._stream.height, self._stream.width = size[0] + self._odd[0], size[1] + self._odd[1]
        self._stream.pix_fmt = "yuv420p"

    def write(self, picture: np.ndarray) -> None:
        if any(self._odd):
            border = (0, self._odd[0], 0, self._odd[1])
            picture = cv2.copyMakeBorder(picture, *border, cv2.BORDER_REPLICATE)
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
        self._file.mux(self._stream.encode(frame))

    def release(self) -> None:
        self._file.mux(self._stream.encode())
        self._file.close()
