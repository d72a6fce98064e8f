"""Average precision by month, as the Seasons in Drift challenge ranks, and what a step of post-processing changed.

The challenge publishes the plain mean over the eight months and a weighted mean. The organisers' weights are not
published. `ESTIMATED_WEIGHTS` is an estimate: of all vectors that reproduce the three published pairs of means it is
the one nearest to equal weights.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdet.data.datasets import ltd
from jaxdet.detections.predictions import Predictions
from jaxdet.errors import InputError
from jaxdet.evaluation import coco
from jaxdet.postprocess.seqnms import Frame
from jaxdet.viewing import plots

MONTHS = ltd.TEST_MONTHS
CLASSES = ltd.CLASSES
ESTIMATED_WEIGHTS = {
    "Jan": 0.0943, "Mar": 0.1100, "Apr": 0.1167, "May": 0.1270, "Jun": 0.1400, "Jul": 0.1604, "Aug": 0.1395,
    "Sep": 0.1121,
}  # fmt: skip


class Labels(NamedTuple):
    """Labelled boxes by frame key; frames without a box belong to it."""

    frames: dict[str, Frame]
    class_names: tuple[str, ...]


class Precision(NamedTuple):
    """COCO average precision over the classes; -1 where nothing was labelled."""

    ap: float  # mean over IoU 0.50 to 0.95
    ap50: float

    def __str__(self):
        return f"AP {self.ap:.4f} AP50 {self.ap50:.4f}"


def read_labels(path: str | os.PathLike) -> Labels:
    """Labels from a folder of LTD annotations (`<date>/<clip>/annotations_NNNN.txt`) or COCO annotations (.json)."""
    path = Path(path)
    if path.suffix == ".json":
        return _coco_labels(path)
    files = sorted(path.rglob("annotations_*.txt"))
    if not files:
        raise InputError(
            f"{path}: no annotations_NNNN.txt below it; expected <date>/<clip>/annotations_NNNN.txt"
        )
    return Labels({_annotation_key(file): _annotation(file) for file in files}, CLASSES)


def precision(labels: Labels, predictions: Predictions) -> Precision:
    """COCO AP of `predictions` on the labelled frames. Without scores, rows rank by their order."""
    keys = sorted(labels.frames)
    found = [
        predictions.frames.get(key, Frame(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))) for key in keys
    ]
    metrics = coco.evaluate(
        _table([labels.frames[key] for key in keys]),
        _table(found),
        len(keys),
        labels.class_names,
    )
    return Precision(float(metrics.statistics[0]), float(metrics.statistics[1]))


def change(labels: Labels, before: Predictions, after: Predictions) -> str:
    """One line: the metric before and after a step."""
    return f"before {precision(labels, before)}, after {precision(labels, after)}"


def check_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights of the eight months; InputError unless each month has a positive one and they sum to one."""
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
    """Mean weighted by month; weights are scaled to sum to one over the months given."""
    total = sum(weights[month] for month in values)
    return float(sum(weights[month] * value for month, value in values.items()) / total)


def report(values: Mapping[str, float], weights: Mapping[str, float] = ESTIMATED_WEIGHTS) -> str:
    """One line: both means, then the months in calendar order."""
    months = " ".join(f"{month} {values[month]:.4f}" for month in MONTHS if month in values)
    kind = "estimated weights" if weights == ESTIMATED_WEIGHTS else "given weights"
    weighted = f"weighted {weighted_mean(values, weights):.6f} ({kind})"
    return f"mAP {plain_mean(values):.4f}, {weighted}: {months}"


def drift(path: str | os.PathLike, series: Mapping[str, Mapping[str, float]]) -> None:
    """Picture of AP by month, one line per entry of `series`, for example with and without Seq-NMS."""
    rows = {
        name: ([m for m in MONTHS if m in values], [values[m] for m in MONTHS if m in values])
        for name, values in series.items()
    }
    plots.lines(path, rows, "month", "AP")


def _table(frames: Sequence[Frame]) -> coco.Boxes:
    image = np.repeat(np.arange(len(frames)), [len(frame.scores) for frame in frames])
    boxes = np.concatenate([np.zeros((0, 4)), *(frame.boxes for frame in frames)])
    boxes[:, 2:] -= boxes[:, :2]
    labels = np.concatenate([np.zeros(0, int), *(frame.labels for frame in frames)])
    scores = np.concatenate([np.zeros(0), *(frame.scores for frame in frames)])
    return coco.boxes(image, boxes, labels, scores)


def _annotation_key(file: Path) -> str:
    return f"{file.parent.parent.name}_{file.parent.name}_{file.stem.removeprefix('annotations_')}"


def _annotation(file: Path) -> Frame:
    found = ltd.read_annotation(file)
    return Frame(found.boxes.astype(np.float64), np.ones(len(found.labels)), found.labels.astype(np.int64))


def _coco_labels(path: Path) -> Labels:
    try:
        content = json.loads(path.read_text())
        categories = sorted(content["categories"], key=lambda row: row["id"])
        index = {row["id"]: i for i, row in enumerate(categories)}
        keys = {row["id"]: Path(row["file_name"]).stem for row in content["images"]}
        rows: dict[str, list] = {key: [] for key in keys.values()}
        for row in content["annotations"]:
            left, top, width, height = row["bbox"]
            box = (left, top, left + width, top + height)
            rows[keys[row["image_id"]]].append((*box, index[row["category_id"]]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: {error}; expected COCO images, annotations and categories") from error
    tables = {key: np.array(found, np.float64).reshape(-1, 5) for key, found in rows.items()}
    frames = {key: Frame(t[:, :4], np.ones(len(t)), t[:, 4].astype(np.int64)) for key, t in tables.items()}
    return Labels(frames, tuple(row["name"] for row in categories))
