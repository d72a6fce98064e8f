"""Hits of Seq-YOLO's own metric; its numbers are compared with the released code in tests/golden."""

import numpy as np

from jaxdet.evaluation import seqyolo_ap


def test_a_box_of_endless_size_overlaps_nothing_and_hides_no_other():
    huge = np.float32(1e30)
    boxes = np.array([[0, 0, huge, huge], [10, 10, 20, 20]], np.float32)
    truth = np.array([[10, 10, 20, 20]], np.float32)
    hits = seqyolo_ap.correct(boxes, np.zeros(2, int), truth, np.zeros(1, int))
    assert hits.all(1).tolist() == [False, True]
