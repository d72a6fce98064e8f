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


def test_quantised_boxes_agree_by_overlap_whatever_their_score():
    allowed = check.TOLERANCES["int8"]
    found = _boxes((12, 12, 50, 50, 0.4, 1), (90, 10, 120, 50, 0.5, 0))
    assert check.match(_boxes(A, B), found, allowed)[0] == 1
    assert check.match(_boxes(A), _boxes((12, 12, 50, 50, 0.4, 0)), allowed)[0] == 0


def test_the_table_holds_what_was_allowed():
    row = check.Comparison("x", allowed=check.TOLERANCES["int8"], ap=0.4, ap_of_jaxdet=0.5).as_json()
    assert row["allowed"] == {"matched": 0.5, "iou": 0.5, "floor": 0.3}
    assert (row["ap"], row["ap_of_jaxdet"]) == (0.4, 0.5)


def test_boxes_of_several_images_are_told_apart():
    found = {**_boxes(A, B, A), "image": np.array([0, 1, 1])}
    assert [len(check.rows(found, image)["scores"]) for image in range(3)] == [1, 2, 0]
