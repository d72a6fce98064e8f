"""Errors of a detector by kind, and what AP50 each kind costs (Bolya et al., TIDE, ECCV 2020).

A detection that is no hit at IoU 0.5 is, in this order, an error of `place` (IoU 0.1 to 0.5 with a label of
its class), of `class` (0.5 with one of another class), a `duplicate` (0.5 with a label that a better one
took), `background` (at most 0.1 with any label) or of `both` class and place. A label that no detection
hits and no error of class or place belongs to is `missed`. The cost of a kind is the AP50 that is gained
when its errors alone are mended: errors of class and place become the hits that they should have been,
unless their label is taken; other detections are removed; missed labels are no longer asked for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxdet.evaluation import coco

KINDS = ("class", "place", "both", "duplicate", "background", "missed")
_HIT, _NEAR = 0.5, 0.1


class Matching(NamedTuple):
    """Detections of the metric, the 100 best of an image and class, at IoU 0.5; F rows by image and score."""

    found: coco.Table
    hit: np.ndarray  # int [F]   row of the label that a detection takes, -1: none
    ignored: np.ndarray  # bool [F]  lies in a region whose detections are not counted
    kind: np.ndarray  # int [F]   index into KINDS of an error, -1: no error
    meant: np.ndarray  # int [F]   row of the label that an error of class or place belongs to, else -1
    missed: np.ndarray  # bool [R]  of the labels, in the order of their table


class ErrorShare(NamedTuple):
    """Number of errors of a kind and the AP50 that they cost."""

    count: int
    cost: float


def overlaps(found: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU [F, R] of boxes x, y, width, height; of a region: the part of the detection that it covers."""
    found, truth = found[:, None].astype(np.float64), truth[None].astype(np.float64)
    low = np.maximum(found[..., :2], truth[..., :2])
    high = np.minimum(found[..., :2] + found[..., 2:], truth[..., :2] + truth[..., 2:])
    inner = np.maximum(high - low, 0).prod(-1)
    area = found[..., 2:].prod(-1)
    whole = np.where(crowd[None], area, area + truth[..., 2:].prod(-1) - inner)
    return np.divide(inner, whole, out=np.zeros_like(inner), where=whole > 0)


def match(truth: coco.Table, found: coco.Table) -> Matching:
    """Match detections with labels as COCO does, and name the errors."""
    found = coco.best(found, 100)
    order = np.lexsort((-found.scores, found.image))
    found = coco.Table(*(column[order] for column in found))
    hit, kind, meant = (np.full(len(order), -1) for _ in range(3))
    ignored, covered = np.zeros(len(order), bool), np.zeros(len(truth.labels), bool)
    by_image = np.argsort(truth.image, kind="stable")
    images = np.unique(np.concatenate([truth.image, found.image]))
    of_truth = np.searchsorted(truth.image[by_image], [images, images + 1])
    of_found = np.searchsorted(found.image, [images, images + 1])
    for t0, t1, f0, f1 in zip(*of_truth, *of_found, strict=True):
        labels, rows = by_image[t0:t1], slice(f0, f1)
        iou = overlaps(found.xywh[rows], truth.xywh[labels], truth.crowd[labels])
        same = found.labels[rows][:, None] == truth.labels[labels][None]
        taken, in_region = take(iou, same, truth.crowd[labels])
        for local, column in enumerate(taken):
            row = f0 + local
            ignored[row] = in_region[local]
            if column >= 0:
                hit[row] = labels[column]
            elif not in_region[local]:
                real = ~truth.crowd[labels]
                kind[row], column = _kind(iou[local] * real, same[local])
                meant[row] = labels[column] if column >= 0 else -1
    covered[hit[hit >= 0]] = True
    covered[meant[meant >= 0]] = True
    return Matching(found, hit, ignored, kind, meant, ~covered & ~truth.crowd)


def take(iou: np.ndarray, same: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label that each detection of an image, best first, takes (-1: none), and whether it lies in a region.

    `iou` and `same` (of one class) are [F, R], `crowd` [R].
    """
    taken, in_region = np.full(len(iou), -1), np.zeros(len(iou), bool)
    free = ~crowd
    for row in range(len(iou)):
        real = np.where(same[row] & free, iou[row], 0)
        # Parity with pycocotools: of equal overlaps the last label is taken.
        if len(real) and real.max() >= min(_HIT, 1 - 1e-10):
            taken[row] = len(real) - 1 - int(real[::-1].argmax())
            free[taken[row]] = False
        else:
            in_region[row] = bool((iou[row] * (same[row] & crowd)).max(initial=0) >= _HIT)
    return taken, in_region


def _kind(iou: np.ndarray, same: np.ndarray) -> tuple[int, int]:
    """Kind of an error and the label that it belongs to, -1 if none, from its overlaps with labels [R]."""
    own, other = iou * same, iou * ~same
    if _NEAR <= own.max(initial=0) < _HIT:
        return KINDS.index("place"), int(own.argmax())
    if other.max(initial=0) >= _HIT:
        return KINDS.index("class"), int(other.argmax())
    if own.max(initial=0) >= _HIT:
        return KINDS.index("duplicate"), -1
    name = "background" if iou.max(initial=0) <= _NEAR else "both"
    return KINDS.index(name), -1


def precision_at_half(scores: np.ndarray, hits: np.ndarray, num_truth: int) -> float:
    """COCO's AP of one class at 101 recalls from the scores [F] and hits [F] of its detections."""
    order = np.argsort(-scores, kind="mergesort")
    hits = np.cumsum(hits[order])
    precision = hits / (np.arange(len(hits)) + 1 + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / num_truth, np.linspace(0, 1, 101), side="left")
    return float(np.where(places < len(hits), np.append(precision, 0)[places], 0).mean())


def _mean(labels, scores, hits, num_truth: np.ndarray) -> float:
    values = [
        precision_at_half(scores[labels == k], hits[labels == k], count)
        for k, count in enumerate(num_truth.tolist())
        if count
    ]
    return float(np.mean(values)) if values else -1.0


def shares(truth: coco.Table, matching: Matching, class_names: Sequence[str]) -> dict[str, ErrorShare]:
    """Number and cost of the errors of each kind; costs are 0 where nothing is labelled."""
    found, counted = matching.found, ~matching.ignored
    num_truth = np.bincount(truth.labels[~truth.crowd], minlength=len(class_names))
    hits = matching.hit >= 0
    base = _mean(found.labels[counted], found.scores[counted], hits[counted], num_truth)
    result = {}
    for index, name in enumerate(KINDS):
        wrong = matching.kind == index
        labels, right, rest, asked = found.labels.copy(), hits.copy(), counted & ~wrong, num_truth
        if name == "missed":
            missing = np.bincount(truth.labels[matching.missed], minlength=len(class_names))
            asked, count = num_truth - missing, int(matching.missed.sum())
        else:
            count = int(wrong.sum())
        if name in ("class", "place"):
            mended = _mended(matching, np.flatnonzero(wrong))
            labels[mended] = truth.labels[matching.meant[mended]]
            right[mended], rest[mended] = True, True
        value = _mean(labels[rest], found.scores[rest], right[rest], asked)
        result[name] = ErrorShare(count, value - base if base >= 0 and value >= 0 else 0.0)
    return result


def _mended(matching: Matching, rows: np.ndarray) -> np.ndarray:
    """Of these errors the best of each label that nothing has taken."""
    free = rows[~np.isin(matching.meant[rows], matching.hit[matching.hit >= 0])]
    free = free[np.argsort(-matching.found.scores[free], kind="stable")]
    _, first = np.unique(matching.meant[free], return_index=True)
    return free[first]
