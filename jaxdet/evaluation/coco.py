"""COCO average precision by pycocotools: the 12 numbers, AP per class and the precision-recall curves.

Boxes are rows of a table, which also holds the index of their image. The layout is COCO's own (x, y, width,
height), because that is what is compared: converting to corners and back would move a box by a rounding
error.
"""

import contextlib
import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdet.errors import InputError
from jaxdet.evaluation.metrics import AREAS, MAX_DETECTIONS, STATISTICS, THRESHOLDS, Metrics


class Table(NamedTuple):
    """Boxes of many images, one row each."""

    image: np.ndarray  # int [R]       index of the image
    xywh: np.ndarray  # float [R, 4]  left, top, width, height, pixels
    labels: np.ndarray  # int [R]       index into the class names
    scores: np.ndarray  # float [R]     1 for ground truth
    area: np.ndarray  # float [R]     compared with the limits of small, medium and large
    crowd: np.ndarray  # bool [R]      a region whose detections are not counted; ground truth only


def table(image, xywh, labels, scores=None, area=None, crowd=None) -> Table:
    """Table of R boxes from `image` [R], `xywh` [R, 4], `labels` [R] and so on, as `Table` describes them.

    Scores default to 1, areas to width x height in the precision of the coordinates, `crowd` to False.
    """
    xywh = np.asarray(xywh).reshape(-1, 4)
    rows = len(xywh)
    return Table(
        np.asarray(image, np.int64).reshape(rows),
        xywh,
        np.asarray(labels, np.int64).reshape(rows),
        np.ones(rows) if scores is None else np.asarray(scores).reshape(rows),
        xywh[:, 2] * xywh[:, 3] if area is None else np.asarray(area).reshape(rows),
        np.zeros(rows, bool) if crowd is None else np.asarray(crowd, bool).reshape(rows),
    )


def concatenate(parts: Iterable[Table]) -> Table:
    """Join tables; image indices are kept."""
    parts = list(parts)
    if not parts:
        return table([], np.zeros((0, 4)), [])
    return Table(*(np.concatenate(columns) for columns in zip(*parts)))


def of_images(rows: Table, images: np.ndarray) -> Table:
    """The rows of these ascending images [I], whose indices become 0 .. I - 1."""
    chosen = np.isin(rows.image, images)
    kept = Table(*(column[chosen] for column in rows))
    return kept._replace(image=np.searchsorted(images, kept.image))


def average_precision(
    truth: Table,
    found: Table,
    num_images: int,
    class_names: Sequence[str],
    backend: str = "pycocotools",
) -> Metrics:
    """COCO bounding-box metrics of `found` against `truth`, over images 0 .. num_images - 1.

    `backend` is `pycocotools` or `faster` (faster-coco-eval: the same numbers, several times faster).
    Raises InputError for labels outside the classes.
    """
    for rows, what in ((truth, "ground truth"), (found, "detections")):
        _check_labels(rows.labels, len(class_names), what)
    num_found, found = len(found.scores), best(found, MAX_DETECTIONS[-1])
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


def _check_labels(labels, num_classes, what):
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise InputError(
            f"{what}: class {outside[0]} found, expected 0 to {num_classes - 1}; check the number of classes"
        )


def best(found: Table, limit: int) -> Table:
    """The `limit` best rows of every image and class, in their old order: the metric uses no others."""
    if not len(found.scores):
        return found
    order = np.lexsort((-found.scores, found.labels, found.image))
    image, labels = found.image[order], found.labels[order]
    first = np.r_[True, (image[1:] != image[:-1]) | (labels[1:] != labels[:-1])]
    rank = np.arange(len(order)) - np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    rows = np.sort(order[rank < limit])
    return Table(*(column[rows] for column in found))


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
                "backend faster needs the package faster-coco-eval; install it, or use pycocotools"
            ) from error
        return COCO, COCOeval_faster
    raise InputError(f"unknown COCO backend {name}; expected pycocotools or faster")


def _dataset(dataset_class, rows: Table, num_images, class_names):
    dataset = dataset_class()
    columns = zip(*rows)
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
    if num_images == 0 or num_classes == 0:  # both evaluators fail on empty arrays
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
