"""Pictures of a report: labels beside detections."""

import numpy as np

from jaxdet.structs import Boxes
from jaxdet.viewing import report


def test_labels_are_left_and_detections_right():
    where = {"source": "x", "image_size": (80, 100)}
    truth = Boxes.of_xywh([[10, 20, 30, 40]], [1.0], [0], **where)
    pair = report.Pair("x", None, truth, Boxes.none(**where))
    drawn = report.side_by_side(pair, ("person",))
    width = (drawn.shape[1] - 6) // 2
    left, right = drawn[:, :width], drawn[:, -width:]
    assert drawn.shape[0] == 80 * (width // 100)
    assert (left != right).any()
    assert (right == right[0, 0]).all()


def test_large_pictures_are_reduced_with_their_boxes():
    where = {"source": "x", "image_size": (1280, 2560)}
    truth = Boxes.of_xywh([[0, 0, 2560, 1280]], [1.0], [0], **where)
    pair = report.Pair("x", np.zeros((1280, 2560, 3), np.uint8), truth, truth)
    drawn = report.side_by_side(pair, ("person",))
    assert drawn.shape == (640, 2 * 1280 + 6, 3)
    assert drawn[320, 0].any()  # the left edge of the box
    assert drawn[320, 1279].any()
