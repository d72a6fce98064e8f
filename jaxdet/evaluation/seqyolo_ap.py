"""Precision, recall and AP as the released Seq-YOLO computes them in training and testing.

They differ from COCO's: the curve ends at the score threshold of the detections, a detection is compared only
with the ground-truth box that it overlaps most, and a class without detections counts 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxdet.errors import InputError

THRESHOLDS = np.linspace(0.5, 0.95, 10)
REPORT_SCORE = 0.1  # precision and recall are reported at this score


class Scores(NamedTuple):
    """Precision, recall, AP and F1 of every class that has ground truth."""

    precision: np.ndarray  # float64 [C]       at IoU 0.5 and score 0.1
    recall: np.ndarray  # float64 [C]
    f1: np.ndarray  # float64 [C]
    ap: np.ndarray  # float64 [C, 10]   by IoU threshold
    classes: np.ndarray  # int32   [C]


class Hits:
    """Collects the hits of detections image by image, for the metric of all images."""

    def __init__(self):
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(self, boxes, scores, labels, truth_boxes, truth_labels) -> None:
        """Add one image; `scores` [D], other arguments as in `correct`."""
        hits = correct(boxes, labels, truth_boxes, truth_labels)
        self._parts.append((hits, np.asarray(scores), np.asarray(labels), np.asarray(truth_labels)))

    def scores(self) -> Scores:
        """The metric of all images added; InputError if there were none."""
        if not self._parts:
            raise InputError("no image could be read, expected at least one; check the paths of the images")
        return ap_per_class(*(np.concatenate(column) for column in zip(*self._parts, strict=True)))


def correct(boxes, labels, truth_boxes, truth_labels) -> np.ndarray:
    """Hits among the detections of one image, at each of ten IoU thresholds -> bool [D, 10].

    `boxes` [D, 4] are xyxy in descending score, `truth_boxes` [M, 4], labels [D] and [M]. A detection is
    matched to the ground-truth box of its class with the highest IoU; if that box is already matched, the
    detection is a miss at every threshold.
    """
    hits = np.zeros((len(boxes), len(THRESHOLDS)), bool)
    taken: set[int] = set()
    for label in np.unique(truth_labels):
        targets = np.flatnonzero(truth_labels == label)
        rows = np.flatnonzero(labels == label)
        if not len(rows):
            continue
        iou = _pairwise_iou(boxes[rows], truth_boxes[targets])
        for row, best, overlap in zip(rows, targets[iou.argmax(1)], iou.max(1)):
            if overlap > THRESHOLDS[0] and best not in taken:
                taken.add(best)
                hits[row] = overlap > THRESHOLDS
    return hits


def ap_per_class(hits, scores, labels, truth_labels) -> Scores:
    """Precision, recall, F1 and AP of all images together.

    `hits` [R, 10] come from `correct`, `scores` and `labels` are [R], `truth_labels` [G]. Classes are those
    of the ground truth; a class without detections gets zeros.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    hits, scores, labels = np.asarray(hits)[order], np.asarray(scores)[order], np.asarray(labels)[order]
    classes, counts = np.unique(truth_labels, return_counts=True)
    precision, recall = np.zeros(len(classes)), np.zeros(len(classes))
    ap = np.zeros((len(classes), hits.shape[1]))
    for row, (label, count) in enumerate(zip(classes, counts)):
        rows = labels == label
        if not rows.any():
            continue
        true_positives = hits[rows].cumsum(0)
        false_positives = (~hits[rows].astype(bool)).cumsum(0)
        recalls = true_positives / (count + 1e-16)
        precisions = true_positives / (true_positives + false_positives)
        recall[row] = np.interp(-REPORT_SCORE, -scores[rows], recalls[:, 0])
        precision[row] = np.interp(-REPORT_SCORE, -scores[rows], precisions[:, 0])
        ap[row] = [compute_ap(recalls[:, j], precisions[:, j]) for j in range(hits.shape[1])]
    f1 = 2 * precision * recall / (precision + recall + 1e-16)
    return Scores(precision, recall, f1, ap, classes.astype(np.int32))


def compute_ap(recall, precision) -> float:
    """Area under the precision envelope, 101-point interpolation by trapezoids.

    `recall` and `precision` are [R]. Parity: the curve ends 0.001 after its last recall, with precision 0.
    """
    recall = np.concatenate(([0.0], recall, [min(recall[-1] + 1e-3, 1.0)]))
    precision = np.concatenate(([0.0], precision, [0.0]))
    envelope = np.flip(np.maximum.accumulate(np.flip(precision)))
    grid = np.linspace(0, 1, 101)
    return float(np.trapezoid(np.interp(grid, recall, envelope), grid))


def fitness(map50: float, map_: float) -> float:
    """Fitness by which the released training selects its best epoch."""
    return 0.1 * map50 + 0.9 * map_


def table(scores: Scores, class_names: Sequence[str]) -> str:
    """Lines with precision, recall and AP, of all classes and then of each."""
    if not len(scores.classes):
        return "no labels, so precision, recall and AP are not defined"
    ap50, ap = scores.ap[:, 0], scores.ap.mean(1)
    rows = [("all", scores.precision.mean(), scores.recall.mean(), ap50.mean(), scores.ap.mean())]
    names = [class_names[int(label)] for label in scores.classes]
    rows += zip(names, scores.precision, scores.recall, ap50, ap, strict=True)
    width = max(len(row[0]) for row in rows)
    lines = [
        f" {name:<{width}}  P {p:.4f}  R {r:.4f}  mAP@.5 {a:.4f}  mAP@.5:.95 {m:.4f}"
        for name, p, r, a, m in rows
    ]
    return "\n".join([f"as Seq-YOLO counts, P and R at score {REPORT_SCORE}:", *lines])


def _pairwise_iou(a, b):
    """IoU of `a` [D, 4] with `b` [M, 4] -> [D, M]; 0 where both are empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = (high - low).clip(0).prod(2)
    with np.errstate(over="ignore"):  # boxes of untrained weights: they overlap nothing
        area_a, area_b = ((v[:, 2:] - v[:, :2]).prod(1) for v in (a, b))
    union = area_a[:, None] + area_b[None] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
