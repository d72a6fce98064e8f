"""COCO average precision: the 12 numbers, AP per class and the precision-recall curves behind them.

Boxes are tables of rows, one row a box, with the index of its image. The layout is COCO's own (x, y, width, height),
because that is what is compared: converting to corners and back would move a box by a rounding error.
"""

import contextlib
import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdet.errors import InputError

MAX_DETECTIONS = (1, 10, 100)
AREAS = ("all", "small", "medium", "large")
# (name, precision or recall, IoU threshold or None for the mean, area, detections per image and class)
STATISTICS = (
    ("AP", "AP", None, "all", 100),
    ("AP50", "AP", 0.5, "all", 100),
    ("AP75", "AP", 0.75, "all", 100),
    ("AP_small", "AP", None, "small", 100),
    ("AP_medium", "AP", None, "medium", 100),
    ("AP_large", "AP", None, "large", 100),
    ("AR_1", "AR", None, "all", 1),
    ("AR_10", "AR", None, "all", 10),
    ("AR_100", "AR", None, "all", 100),
    ("AR_small", "AR", None, "small", 100),
    ("AR_medium", "AR", None, "medium", 100),
    ("AR_large", "AR", None, "large", 100),
)
THRESHOLDS = np.linspace(0.5, 0.95, 10)


class Boxes(NamedTuple):
    """Boxes of many images, one row each."""

    image: np.ndarray  # int [R]       index of the image
    xywh: np.ndarray  # float [R, 4]  left, top, width, height, pixels
    labels: np.ndarray  # int [R]       index into the class names
    scores: np.ndarray  # float [R]     1 for ground truth
    area: np.ndarray  # float [R]     what the size limits look at
    crowd: np.ndarray  # bool [R]      a region whose detections are not counted; ground truth only


class Metrics(NamedTuple):
    """COCO results; -1 stands where there was no ground truth to measure on."""

    statistics: np.ndarray  # float64 [12]          in the order of STATISTICS
    class_names: tuple[str, ...]
    ap_per_class: np.ndarray  # float64 [C]
    ap50_per_class: np.ndarray  # float64 [C]
    precision: np.ndarray  # float64 [10, 101, C, 4, 3] IoU, recall, class, area, detections
    recall: np.ndarray  # float64 [10, C, 4, 3]
    num_images: int
    num_truth: int
    num_detections: int


def boxes(image, xywh, labels, scores=None, area=None, crowd=None) -> Boxes:
    """Table of boxes; areas default to width x height in the precision of the coordinates."""
    xywh = np.asarray(xywh).reshape(-1, 4)
    rows = len(xywh)
    return Boxes(
        np.asarray(image, np.int64).reshape(rows),
        xywh,
        np.asarray(labels, np.int64).reshape(rows),
        np.ones(rows) if scores is None else np.asarray(scores).reshape(rows),
        xywh[:, 2] * xywh[:, 3] if area is None else np.asarray(area).reshape(rows),
        np.zeros(rows, bool) if crowd is None else np.asarray(crowd, bool).reshape(rows),
    )


def concatenate(parts: Iterable[Boxes]) -> Boxes:
    """Join tables; image indices are taken as they are."""
    parts = list(parts)
    if not parts:
        return boxes([], np.zeros((0, 4)), [])
    return Boxes(*(np.concatenate(columns) for columns in zip(*parts)))


def evaluate(
    truth: Boxes,
    found: Boxes,
    num_images: int,
    class_names: Sequence[str],
    backend: str = "pycocotools",
) -> Metrics:
    """COCO bounding-box metrics of `found` against `truth`, over images 0 .. num_images - 1.

    `backend` is `pycocotools` or `faster` (faster-coco-eval: same numbers, several times faster). Labels outside the
    classes raise InputError.
    """
    for table, what in ((truth, "ground truth"), (found, "detections")):
        _check_labels(table.labels, len(class_names), what)
    num_found, found = len(found.scores), _best(found, MAX_DETECTIONS[-1])
    dataset_class, evaluator_class = _backend(backend)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = evaluator_class(
            _dataset(dataset_class, truth, num_images, class_names),
            _dataset(dataset_class, found, num_images, class_names),
            iouType="bbox",
        )
        evaluator.params.imgIds = list(range(1, num_images + 1))
        evaluator.params.maxDets = list(MAX_DETECTIONS)
        precision, recall = _curves(evaluator, len(class_names), num_images)
    return Metrics(
        statistics=np.array([_statistic(precision, recall, *row[1:]) for row in STATISTICS]),
        class_names=tuple(class_names),
        ap_per_class=np.array([_mean(precision[:, :, k, 0, 2]) for k in range(len(class_names))]),
        ap50_per_class=np.array([_mean(precision[0, :, k, 0, 2]) for k in range(len(class_names))]),
        precision=precision,
        recall=recall,
        num_images=num_images,
        num_truth=len(truth.labels),
        num_detections=num_found,
    )


def text(metrics: Metrics) -> str:
    """The 12 numbers in COCO's own words, then AP of each class."""
    titles = {"AP": "Average Precision", "AR": "Average Recall"}
    lines = []
    for (_, kind, iou, area, limit), value in zip(STATISTICS, metrics.statistics):
        threshold = "0.50:0.95" if iou is None else f"{iou:0.2f}"
        lines.append(
            f" {titles[kind]:<18} ({kind}) @[ IoU={threshold:<9} | area={area:>6s} | maxDets={limit:>3d} ] = {value:0.3f}"
        )
    width = max((len(name) for name in metrics.class_names), default=0)
    for name, ap, ap50 in zip(metrics.class_names, metrics.ap_per_class, metrics.ap50_per_class):
        lines.append(f" {name:<{width}}  AP {ap:0.3f}  AP50 {ap50:0.3f}")
    return "\n".join(lines)


def as_json(metrics: Metrics) -> dict:
    """The numbers with names, ready for a JSON file."""
    per_class = zip(metrics.class_names, metrics.ap_per_class, metrics.ap50_per_class)
    return {
        "statistics": {row[0]: float(value) for row, value in zip(STATISTICS, metrics.statistics)},
        "classes": {name: {"AP": float(ap), "AP50": float(ap50)} for name, ap, ap50 in per_class},
        "num_images": metrics.num_images,
        "num_truth": metrics.num_truth,
        "num_detections": metrics.num_detections,
    }


def _check_labels(labels, num_classes, what):
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise InputError(
            f"{what}: class {outside[0]} found, expected 0 to {num_classes - 1}; check the number of classes"
        )


def _best(found: Boxes, limit: int) -> Boxes:
    """The `limit` best rows of every image and class, in their old order: all that the metric ever looks at."""
    if not len(found.scores):
        return found
    order = np.lexsort((-found.scores, found.labels, found.image))
    image, labels = found.image[order], found.labels[order]
    first = np.r_[True, (image[1:] != image[:-1]) | (labels[1:] != labels[:-1])]
    rank = np.arange(len(order)) - np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    rows = np.sort(order[rank < limit])
    return Boxes(*(column[rows] for column in found))


def _backend(name) -> tuple[Any, Any]:
    if name == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return COCO, COCOeval
    if name == "faster":
        try:
            from faster_coco_eval import COCO, COCOeval_faster  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise InputError(
                "backend faster needs faster-coco-eval; install it or use pycocotools"
            ) from error
        return COCO, COCOeval_faster
    raise InputError(f"unknown COCO backend {name}; expected pycocotools or faster")


def _dataset(dataset_class, table: Boxes, num_images, class_names):
    dataset = dataset_class()
    columns = zip(table.image, table.xywh, table.labels, table.scores, table.area, table.crowd)
    dataset.dataset = {
        "images": [{"id": i + 1} for i in range(num_images)],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(class_names)],
        "annotations": [
            {
                "id": row + 1,  # 0 would mean "not matched" to the evaluator
                "image_id": int(image) + 1,
                "category_id": int(label) + 1,
                "bbox": [float(value) for value in xywh],
                "area": float(area),
                "iscrowd": int(crowd),
                "score": float(score),
            }
            for row, (image, xywh, label, score, area, crowd) in enumerate(columns)
        ],
    }
    dataset.createIndex()
    return dataset


def _curves(evaluator, num_classes, num_images):
    if num_images == 0 or num_classes == 0:  # nothing to sort: the evaluators index into emptiness
        return -np.ones((10, 101, num_classes, 4, 3)), -np.ones((10, num_classes, 4, 3))
    evaluator.evaluate()
    evaluator.accumulate()
    shape = (10, 101, num_classes, 4, 3)
    precision = np.asarray(evaluator.eval["precision"], np.float64).reshape(shape)
    return precision, np.asarray(evaluator.eval["recall"], np.float64).reshape(shape[:1] + shape[2:])


def _statistic(precision, recall, kind, iou, area, limit):
    values = precision if kind == "AP" else recall
    values = values[..., AREAS.index(area), MAX_DETECTIONS.index(limit)]
    if iou is not None:
        values = values[np.argmin(np.abs(THRESHOLDS - iou))]
    return _mean(values)


def _mean(values):
    present = values[values > -1]
    return float(present.mean()) if present.size else -1.0
