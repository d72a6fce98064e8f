"""Average precision by month, as the Seasons in Drift challenge ranks, and before and after post-processing.

The challenge publishes the plain mean over the eight months and a weighted mean. The organisers' weights are
not published. `ESTIMATED_WEIGHTS` is an estimate: of all vectors that reproduce the three published pairs of
means it is the one nearest to equal weights.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdet.data.datasets import ltd
from jaxdet.errors import InputError
from jaxdet.evaluation.evaluator import evaluate
from jaxdet.files import finished
from jaxdet.formats import BoxFile, coco
from jaxdet.structs import Boxes, ReadReport

MONTHS = ltd.TEST_MONTHS
CLASSES = ltd.CLASSES
ESTIMATED_WEIGHTS = {
    "Jan": 0.0943, "Mar": 0.1100, "Apr": 0.1167, "May": 0.1270, "Jun": 0.1400, "Jul": 0.1604, "Aug": 0.1395,
    "Sep": 0.1121,
}  # fmt: skip


class Precision(NamedTuple):
    """COCO average precision over the classes; -1 if nothing was labelled."""

    ap: float  # mean over IoU 0.50 to 0.95
    ap50: float

    def __str__(self):
        return f"AP {self.ap:.4f} AP50 {self.ap50:.4f}"


def read_labels(path: str | os.PathLike) -> BoxFile:
    """Labels from LTD annotations, `<date>/<clip>/annotations_NNNN.txt` in a folder, or COCO annotations.

    A path that ends in .json is read as COCO annotations. InputError if there are no annotation files.
    """
    path = Path(path)
    if path.suffix == ".json":
        found = coco.read_annotations(path)
        return BoxFile(found.frames, found.class_names, False, found.report)
    files = finished(path.rglob("annotations_*.txt"), path)
    if not files:
        raise InputError(
            f"{path}: no annotation files; expected <date>/<clip>/annotations_NNNN.txt in this folder"
        )
    frames = [replace(ltd.read_annotation(file), source=_name(file)) for file in files]
    return BoxFile(frames, CLASSES, False, ReadReport())


def precision(labels: BoxFile, found: Iterable[Boxes]) -> Precision:
    """COCO AP of `found` on the labelled frames. Boxes without scores (all 1) rank in their order."""
    metrics = evaluate(found, labels.frames, "coco", labels.class_names, report=labels.report)
    return Precision(metrics.ap, metrics.ap50)


def change(labels: BoxFile, before: Iterable[Boxes], after: Iterable[Boxes]) -> str:
    """Line with AP before and after a step of post-processing."""
    return f"before {precision(labels, before)}, after {precision(labels, after)}"


def check_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights as a dictionary; InputError unless all eight months have positive weights that sum to 1."""
    unknown, missing = set(weights) - set(MONTHS), set(MONTHS) - set(weights)
    if unknown or missing:
        raise InputError(
            f"weights of {', '.join(sorted(weights))}; expected one of each of {', '.join(MONTHS)}"
        )
    if min(weights.values()) <= 0 or abs(sum(weights.values()) - 1) > 1e-6:
        raise InputError(f"weights {list(weights.values())}; expected positive numbers that sum to 1")
    return dict(weights)


def plain_mean(values: Mapping[str, float]) -> float:
    """Mean over the months given."""
    return float(np.mean(list(values.values())))


def weighted_mean(values: Mapping[str, float], weights: Mapping[str, float] = ESTIMATED_WEIGHTS) -> float:
    """Mean weighted by month; the weights of the given months are scaled to sum to 1."""
    total = sum(weights[month] for month in values)
    return float(sum(weights[month] * value for month, value in values.items()) / total)


def report(values: Mapping[str, float], weights: Mapping[str, float] = ESTIMATED_WEIGHTS) -> str:
    """Line with both means, then the months in calendar order."""
    months = " ".join(f"{month} {values[month]:.4f}" for month in MONTHS if month in values)
    kind = "estimated weights" if weights == ESTIMATED_WEIGHTS else "given weights"
    weighted = f"weighted {weighted_mean(values, weights):.6f} ({kind})"
    return f"mAP {plain_mean(values):.4f}, {weighted}: {months}"


def _name(file: Path) -> str:
    """`<date>_<clip>_<NNNN>`, the name of the frame that an annotation file labels."""
    return f"{file.parent.parent.name}_{file.parent.name}_{file.stem.removeprefix('annotations_')}"
