"""Pictures and videos."""

import cv2
import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.structs import Boxes
from jaxdet.viewing import drawing


def _frames(path):
    video, frames = cv2.VideoCapture(str(path)), []
    while (read := video.read())[0]:
        frames.append(read[1])
    return frames


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_a_video_has_one_picture_per_stride_of_steps(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    with drawing.open_sink(path, fps=20) as sink:
        events = drawing.EventSink(sink, (240, 304), ["car", "pedestrian"], stride=4, min_score=0.3)
        for step in range(23):
            x = np.arange(step, step + 100)
            boxes = np.array([[50, 50, 100 + step, 120]], np.float32)
            events.add(x, x, x % 2, Boxes(boxes, np.array([0.9]), np.array([1])))
    frames = _frames(path)
    assert len(frames) == 23 // 4
    assert frames[0].shape == (720, 912, 3)


def test_only_boxes_at_the_threshold_are_drawn(tmp_path):
    drawn = []
    sink = drawing.EventSink(
        lambda picture, n: drawn.append((picture, n)), (20, 30), ["car"], 1, min_score=0.5
    )
    boxes = np.array([[1, 1, 10, 10], [12, 2, 25, 15]], np.float32)
    sink.add([], [], [], Boxes(boxes, np.array([0.5, 0.49]), np.array([0, 0])))
    assert drawn[0][1] == 1
    changed = np.argwhere((drawn[0][0] != drawing.event_frame([], [], [], (20, 30))[0, 0]).any(2))
    scale = drawn[0][0].shape[1] // 30
    assert changed[:, 0].max() < 12 * scale


def test_event_frame_shows_the_later_event_and_ignores_what_is_outside():
    picture = drawing.event_frame([1, 1, 99, -1], [2, 2, 0, 0], [0, 1, 1, 1], (4, 5))
    assert picture[2, 1].tolist() == [235, 235, 235]
    assert (picture[0] == picture[0, 0]).all()


def test_a_picture_keeps_the_fullest_moment(tmp_path):
    with drawing.open_sink(tmp_path / "a.png", 20) as sink:
        for value, boxes in ((10, 0), (20, 2), (30, 2), (40, 1)):
            sink(np.full((8, 8, 3), value, np.uint8), boxes)
    assert cv2.imread(str(tmp_path / "a.png"))[0, 0, 0] == 20


def test_what_cannot_be_rendered_is_said_and_leaves_no_file(tmp_path):
    for name, message in (
        ("a.gif", "cannot render as .gif"),
        ("a.mp4", "nothing to render"),
        ("a.png", "nothing"),
    ):
        with pytest.raises(InputError, match=message), drawing.open_sink(tmp_path / name, 20):
            pass
    assert list(tmp_path.iterdir()) == []


def test_classes_without_names_are_numbered(monkeypatch):
    texts = []
    monkeypatch.setattr(drawing.cv2, "putText", lambda picture, text, *rest: texts.append(text))
    boxes = Boxes(np.full((2, 4), 5.0), np.array([0.25, 0.5]), np.array([1, 0]), ("car",))
    drawing.draw(np.zeros((20, 20, 3), np.uint8), boxes)
    drawing.draw(np.zeros((20, 20, 3), np.uint8), boxes, ("bus", "tram"))
    assert texts[::2] == ["class_1 0.25", "car 0.50", "tram 0.25", "bus 0.50"]  # each outlined
