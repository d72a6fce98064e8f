"""Live pictures: a camera of this computer or a stream of the network, read like a video."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from jaxdet.errors import InputError

_CAMERA = re.compile(r"webcam(?::(\d+))?")
_STREAM = re.compile(r"(rtsps?|rtmp|https?|udp|tcp)://.+")


def is_live(source: Any) -> bool:
    """True for `webcam`, `webcam:1`, and for an address such as rtsp://camera/stream."""
    return bool(_CAMERA.fullmatch(str(source)) or _STREAM.fullmatch(str(source)))


class LiveVideo:
    """Reader of the frames of a camera or stream, uint8 [H, W, 3] blue first, until its end or Ctrl-C.

    It has the fields of `sets.VideoFile`; `num_frames` is `max_frames`, 0 for no limit. An interruption
    (Ctrl-C) ends the frames, so what was written so far is whole. Raises InputError for a source that does
    not open; an address is shown without user and password.
    """

    def __init__(self, source: str, max_frames: int = 0):
        camera = _CAMERA.fullmatch(source)
        address: Any = int(camera[1] or 0) if camera else source
        shown = re.sub(r"//[^/@]*@", "//", source)
        self._capture = cv2.VideoCapture(address)
        if not self._capture.isOpened():
            raise InputError(f"{shown}: does not open; expected a camera or a stream that is running")
        self.path = Path(f"webcam_{address}" if camera else "stream")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.frame_rate = rate if 1 <= rate <= 1000 else 25.0
        self.num_frames, self.cut_short = max_frames, False
        self.size = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        )

    def __iter__(self) -> Iterator[np.ndarray]:
        count = 0
        try:
            while not self.num_frames or count < self.num_frames:
                ok, frame = self._capture.read()
                if not ok:
                    break
                count += 1
                yield frame
        except KeyboardInterrupt:
            pass
        finally:
            self._capture.release()
