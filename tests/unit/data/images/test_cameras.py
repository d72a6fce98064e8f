"""Live sources, with a capture of four frames in place of a camera."""

import cv2
import numpy as np
import pytest

from jaxdet.data.images import cameras
from jaxdet.errors import InputError


class _Capture:
    def __init__(self, address):
        self.address, self.left, self.released = address, 4, False

    def isOpened(self):
        return self.address != 7

    def get(self, key):
        return {cv2.CAP_PROP_FPS: 0.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0, cv2.CAP_PROP_FRAME_WIDTH: 64.0}[key]

    def read(self):
        self.left -= 1
        return self.left >= 0, np.zeros((48, 64, 3), np.uint8)

    def release(self):
        self.released = True


@pytest.fixture(autouse=True)
def _no_camera(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", _Capture)


def test_what_is_live():
    for live in ("webcam", "webcam:1", "rtsp://10.0.0.1/stream", "http://host/x.mjpg"):
        assert cameras.is_live(live)
    for file in ("0", "clip.mp4", "webcam/clip.mp4", "rtsp", "a://b", "folder/rtsp://x"):
        assert not cameras.is_live(file)


def test_frames_end_with_the_source_or_at_the_limit():
    video = cameras.LiveVideo("webcam:2")
    assert (video.size, video.frame_rate, video.path.stem) == ((48, 64), 25.0, "webcam_2")
    assert len(list(video)) == 4
    assert video._capture.released
    assert len(list(cameras.LiveVideo("rtsp://host/x", max_frames=3))) == 3


def test_ctrl_c_ends_the_frames(monkeypatch):
    def read(self):
        if self.left == 2:
            raise KeyboardInterrupt
        self.left -= 1
        return True, np.zeros((48, 64, 3), np.uint8)

    monkeypatch.setattr(_Capture, "read", read)
    video = cameras.LiveVideo("webcam")
    assert len(list(video)) == 2
    assert video._capture.released


def test_passwords_are_not_shown(monkeypatch):
    monkeypatch.setattr(_Capture, "isOpened", lambda self: False)
    with pytest.raises(InputError, match="does not open") as error:
        cameras.LiveVideo("rtsp://me:secret@host/x")
    assert "secret" not in str(error.value)
    assert "rtsp://host/x" in str(error.value)
