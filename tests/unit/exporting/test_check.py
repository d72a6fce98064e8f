"""Boxes of two programs matched one to one."""

import numpy as np
import pytest

from jaxdet.exporting import check


def _boxes(*rows):
    table = np.array(rows, np.float32).reshape(-1, 6)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": table[:, 5].astype(int)}


A, B = (10, 10, 50, 50, 0.9, 1), (60, 10, 90, 50, 0.5, 0)


@pytest.mark.parametrize(
    ("other", "count"),
    [
        ([B, A], 2),  # the order is free
        ([A], 1),
        ([], 0),
        ([A, A], 1),  # a box is matched once
        ([A, (60.02, 10, 90, 50, 0.5, 0)], 2),
        ([A, (60.2, 10, 90, 50, 0.5, 0)], 1),
        ([A, (60, 10, 90, 50, 0.501, 0)], 1),
        ([A, (60, 10, 90, 50, 0.5, 1)], 1),
    ],
)
def test_boxes_match_by_corners_score_and_label(other, count):
    assert check.match(_boxes(A, B), _boxes(*other))[0] == count


def test_one_box_in_a_hundred_may_not_be_missing():
    assert check.Comparison("x", boxes=1000, found=1000, matched=995).passed
    assert not check.Comparison("x", boxes=100, found=100, matched=99).passed
    assert not check.Comparison("x", boxes=100, found=101, matched=100).passed
    assert not check.Comparison("x", relative={"raw": 1e-3}).passed
