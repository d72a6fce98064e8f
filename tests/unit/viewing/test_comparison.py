"""Detections before and after, side by side."""

import cv2
import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.structs import Boxes
from jaxdet.viewing import comparison


def _boxes(number, count):
    corners = np.array([[5, 5, 50, 50.0], [10, 60, 50, 90]])[:count]
    return Boxes(corners, np.full(count, 0.9), np.zeros(count, int), source=f"a_{number}")


def test_the_picture_is_of_the_frame_that_changed_most(tmp_path):
    before = [_boxes(2, 2), _boxes(1, 2)]
    comparison.draw(tmp_path / "x.png", before, [_boxes(1, 1)])  # both boxes of frame 2 went
    picture = cv2.imread(str(tmp_path / "x.png")).astype(int)
    left, right = np.split(picture, 2, axis=1)
    assert left.std() > 1
    assert (right == 40).all()


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(InputError, match="no boxes to draw"):
        comparison.draw(tmp_path / "x.png", [_boxes(1, 0)], [])
