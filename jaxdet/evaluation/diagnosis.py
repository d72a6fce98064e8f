"""Diagnosis of an evaluation: thresholds, confusion, AP of parts of the set, errors by kind, worst images."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdet.data.datasets import ltd, ltdv2
from jaxdet.errors import InputError
from jaxdet.evaluation import coco, error_kinds
from jaxdet.evaluation.error_kinds import ErrorShare, Matching
from jaxdet.evaluation.metrics import Metrics
from jaxdet.formats import names
from jaxdet.structs import Boxes

MAX_GROUPS = 40  # parts of the set, by number of labels
NUM_WORST = 20
_POINTS = 200


class Curve(NamedTuple):
    """Precision, recall and F1 [P] of one class when boxes below `scores` [P] are dropped, at IoU 0.5."""

    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    best: float  # score with the best F1; 1 where there is none
    at_best: tuple[float, float, float]  # precision, recall, F1


class SetPart(NamedTuple):
    """Metrics of a part of the images."""

    num_images: int
    num_truth: int
    ap: float
    ap50: float


class Worst(NamedTuple):
    """An image with many errors at the best scores of the classes."""

    image: int  # index into `Matched.images`
    num_missed: int
    num_false: int


class Diagnosis(NamedTuple):
    """Result of `diagnose`."""

    class_names: tuple[str, ...]
    curves: tuple[Curve, ...]
    confusion: np.ndarray  # int [C + 1, C + 1] truth, prediction; the last is background
    parts: dict[str, dict[str, SetPart]]  # by month, hour, recording
    num_parts_left_out: int
    errors: dict[str, ErrorShare]
    worst: list[Worst]
    label_counts: np.ndarray  # int [C]
    sides: np.ndarray  # float [R] square roots of the areas of the labels, pixels

    def as_json(self) -> dict[str, Any]:
        """The numbers by name."""
        rows = zip(self.class_names, self.curves, self.label_counts.tolist(), strict=True)
        measures = ("precision", "recall", "F1")
        return {
            "best_scores": {
                name: {"score": curve.best, **dict(zip(measures, curve.at_best)), "labels": count}
                for name, curve, count in rows
            },
            "errors": {name: share._asdict() for name, share in self.errors.items()},
            "parts": {
                kind: {name: part._asdict() for name, part in parts.items()}
                for kind, parts in self.parts.items()
            },
            "parts_left_out": self.num_parts_left_out,
            "confusion": self.confusion.tolist(),
        }


def diagnose(metrics: Metrics, backend: str = "pycocotools") -> Diagnosis:
    """Diagnosis of the boxes that an evaluation compared."""
    truth, found, images = metrics.matched
    matching = error_kinds.match(truth, found)
    classes = range(len(metrics.class_names))
    curves = tuple(_curve(truth, matching, k) for k in classes)
    best = np.array([curve.best for curve in curves])
    parts, left_out = _parts(metrics, backend)
    real = ~truth.crowd
    return Diagnosis(
        metrics.class_names,
        curves,
        _confusion(truth, matching, best),
        parts,
        left_out,
        error_kinds.shares(truth, matching, metrics.class_names),
        _worst(truth, matching, best, len(images)),
        np.bincount(truth.labels[real], minlength=len(classes)),
        np.sqrt(truth.xywh[real, 2].astype(np.float64) * truth.xywh[real, 3]),
    )


def _curve(truth: coco.Table, matching: Matching, label: int) -> Curve:
    rows = (matching.found.labels == label) & ~matching.ignored
    scores, hits = matching.found.scores[rows].astype(np.float64), matching.hit[rows] >= 0
    num_truth = int(((truth.labels == label) & ~truth.crowd).sum())
    if not len(scores) or not num_truth:
        nothing = np.zeros(0)
        return Curve(nothing, nothing, nothing, nothing, 1.0, (0.0, 0.0, 0.0))
    order = np.argsort(-scores, kind="stable")
    scores, num_hits = scores[order], np.cumsum(hits[order])
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # a threshold takes all equal scores
    scores, num_hits, num_found = scores[last], num_hits[last], last + 1
    precision, recall = num_hits / num_found, num_hits / num_truth
    f1 = 2 * num_hits / (num_found + num_truth)
    top = int(f1.argmax())
    at_best = float(precision[top]), float(recall[top]), float(f1[top])
    shown = np.unique(np.append(np.linspace(0, len(scores) - 1, _POINTS).astype(int), top))
    return Curve(scores[shown], precision[shown], recall[shown], f1[shown], float(scores[top]), at_best)


def _confusion(truth: coco.Table, matching: Matching, best: np.ndarray) -> np.ndarray:
    """Counts at the best scores; a detection takes the free label that it overlaps most, of any class."""
    found, count = matching.found, len(best)
    matrix = np.zeros((count + 1, count + 1), np.int64)
    kept = np.flatnonzero((found.scores >= best[found.labels]) & ~matching.ignored)
    free = ~truth.crowd
    by_image = np.argsort(truth.image, kind="stable")
    sorted_images = truth.image[by_image]
    for row in kept:
        bounds = np.searchsorted(sorted_images, [found.image[row], found.image[row] + 1])
        labels = by_image[slice(*bounds)]
        labels = labels[free[labels]]
        iou = error_kinds.overlaps(found.xywh[row][None], truth.xywh[labels], truth.crowd[labels])[0]
        if iou.max(initial=0) >= 0.5:
            label = labels[int(iou.argmax())]
            free[label] = False
            matrix[truth.labels[label], found.labels[row]] += 1
        else:
            matrix[count, found.labels[row]] += 1
    matrix[:count, count] = np.bincount(truth.labels[free], minlength=count)
    return matrix


def _worst(truth: coco.Table, matching: Matching, best: np.ndarray, num_images: int) -> list[Worst]:
    found = matching.found
    kept = (found.scores >= best[found.labels]) & ~matching.ignored
    hit = matching.hit[kept & (matching.hit >= 0)]
    missing = ~truth.crowd
    missing[hit] = False
    false = kept & (matching.hit < 0)
    missed = np.bincount(truth.image[missing], minlength=num_images)
    wrong = np.bincount(found.image[false], minlength=num_images)
    surely = np.bincount(found.image[false], found.scores[false], minlength=num_images)
    order = np.argsort(-(missed + surely), kind="stable")[:NUM_WORST]
    return [Worst(int(i), int(missed[i]), int(wrong[i])) for i in order if missed[i] + wrong[i]]


def _parts(metrics: Metrics, backend: str) -> tuple[dict[str, dict[str, SetPart]], int]:
    """Metrics of the parts of the set by each way to divide it, and the number of parts left out."""
    truth, found, images = metrics.matched
    divisions: dict[str, dict[str, list[int]]] = {}
    for index, image in enumerate(images):
        for kind, name in _places(image).items():
            divisions.setdefault(kind, {}).setdefault(name, []).append(index)
    result, left_out = {}, 0
    for kind, groups in divisions.items():
        if len(groups) < 2:
            continue
        tables = {
            name: (coco.of_images(truth, np.array(rows)), coco.of_images(found, np.array(rows)))
            for name, rows in groups.items()
        }
        largest = sorted(groups, key=lambda name: -len(tables[name][0].labels))[:MAX_GROUPS]
        left_out += len(groups) - len(largest)
        result[kind] = {
            name: _part(*tables[name], len(groups[name]), metrics.class_names, backend)
            for name in sorted(largest)
        }
    return result, left_out


def _part(truth, found, num_images: int, class_names: Sequence[str], backend: str) -> SetPart:
    measured = coco.average_precision(truth, found, num_images, class_names, backend)
    return SetPart(num_images, len(truth.labels), measured.ap, measured.ap50)


def _places(image: Boxes) -> dict[str, str]:
    """Month, hour and recording of an image, as far as its name or id says."""
    if image.time_us is not None:
        return {"recording": image.source}
    try:
        uid = ltdv2.decode("" if image.image_id is None else image.image_id)
        return {"month": f"{uid.year}-{uid.month:02d}", "hour": f"{uid.hour:02d}"}
    except InputError:
        pass
    try:
        clip = ltd.clip_of(names.stem(image))
        return {"month": f"{clip[:4]}-{clip[4:6]}", "hour": clip[-4:-2], "recording": clip}
    except InputError:
        pass
    try:
        return {"recording": names.clip_and_number(image)[0]}
    except InputError:
        return {}
