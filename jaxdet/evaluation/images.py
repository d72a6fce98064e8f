"""Measure an image detector: against COCO annotations, or a YOLO-format folder with the released Seq-YOLO figures."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdet import distributed
from jaxdet.data.images.letterbox import letterbox, sets
from jaxdet.data.images.sets import ImageItem
from jaxdet.detections import foreign
from jaxdet.errors import InputError
from jaxdet.evaluation import coco, seqyolo_ap
from jaxdet.inference.images import Found, ItemPredictor


class Result(NamedTuple):
    """Metrics, and what could not be measured."""

    metrics: coco.Metrics
    released: seqyolo_ap.Scores | None  # of YOLO-format folders
    num_missing: int  # annotated images that are not there
    num_skipped: int  # images that could not be read


def annotated(
    predictor: ItemPredictor,
    folder: str | Path,
    annotations: str | Path,
    class_names: Sequence[str],
    backend: str = "pycocotools",
) -> Result:
    """Metrics of the images in `folder` that COCO annotations name.

    Classes are matched by name; `class_names` are the detector's. Annotated images that are missing are counted and
    take no part; unreadable ones count as images without detections.
    """
    items, missing = sets.from_coco(sets.read_coco(annotations), folder)
    if not items:
        raise InputError(f"{folder}: none of the {len(missing)} images of {annotations} is there")
    truth = foreign.read_coco_labels(annotations)
    order = _positions(class_names, truth.class_names, annotations)
    numbers = {int(image_id): i for i, image_id in enumerate(truth.image_ids)}
    present = np.array([numbers[item.image_id] for item in items])
    position = np.full(len(truth.image_ids), -1)
    position[present] = np.arange(len(items))
    kept = position[truth.boxes.image] >= 0
    boxes = coco.Boxes(*(column[kept] for column in truth.boxes))
    boxes = boxes._replace(image=position[boxes.image])
    tables = []
    for found in _shared(predictor, items):
        labels = order[found.labels]
        row = position[numbers[found.item.image_id]]
        known = labels >= 0
        tables.append(_table(row, found.boxes[known], labels[known], found.scores[known]))
    metrics = coco.evaluate(boxes, coco.concatenate(tables), len(items), truth.class_names, backend)
    return Result(metrics, None, len(missing), sum(distributed.gather(predictor.num_skipped)))


def _shared(predictor: ItemPredictor, items: Sequence[ImageItem]) -> Iterable[Found]:
    """Detections of all images, in the order of one process; each process ran over its share of the batches."""
    share = distributed.index(), distributed.count()
    own = list(distributed.told(predictor.items(items, sort=True, share=share), "working on its images"))
    return itertools.chain.from_iterable(distributed.gather(own, Found, ImageItem, images.Placement))


def _positions(detector: Sequence[str], truth: Sequence[str], source) -> np.ndarray:
    """Index among the annotated classes of each class of the detector, -1 where it is not annotated."""
    unknown = [name for name in truth if name not in detector]
    if unknown:
        raise InputError(
            f"{source}: class {unknown[0]!r} is none of the detector's {len(detector)}; "
            "check data.classes of the config"
        )
    index = {name: i for i, name in enumerate(truth)}
    return np.array([index.get(name, -1) for name in detector])


def labelled(
    predictor: ItemPredictor,
    items: Sequence[ImageItem],
    class_names: Sequence[str],
    backend: str = "pycocotools",
) -> Result:
    """Metrics of images whose labels lie in `labels/` beside `images/`, and the figures Seq-YOLO reports.

    An image without a label file is one without objects.
    """
    labels = [sets.read_yolo_labels(sets.label_path(i.path), len(class_names)) for i in items]
    return with_labels(predictor, items, labels, class_names, backend)


def with_labels(
    predictor: ItemPredictor,
    items: Sequence[ImageItem],
    labels: Sequence[np.ndarray],
    class_names: Sequence[str],
    backend: str = "pycocotools",
) -> Result:
    """Metrics of images with rows [M, 5] (class, centre and size as fractions), and the figures Seq-YOLO reports."""
    position = {item.image_id: i for i, item in enumerate(items)}
    skipped = predictor.num_skipped
    truth, found = [], []
    released = _Released()
    for result in _shared(predictor, items):
        row = position[result.item.image_id]
        boxes = _corners(labels[row], result.placement.size)
        truth.append(_table(row, boxes, labels[row][:, 0]))
        found.append(_table(row, result.boxes, result.labels, result.scores))
        released.add(result, boxes, labels[row][:, 0])
    metrics = coco.evaluate(
        coco.concatenate(truth), coco.concatenate(found), len(items), class_names, backend
    )
    num_skipped = sum(distributed.gather(predictor.num_skipped - skipped))
    return Result(metrics, released.scores(), 0, num_skipped)


def released_scores(found: Iterable[Found], labels: dict[int, np.ndarray]) -> seqyolo_ap.Scores:
    """The figures Seq-YOLO reports; `labels` [M, 5] (class, centre and size as fractions) by image id."""
    released = _Released()
    for result in found:
        rows = labels[result.item.image_id]
        released.add(result, _corners(rows, result.placement.size), rows[:, 0])
    return released.scores()


def released_text(scores: seqyolo_ap.Scores, class_names: Sequence[str]) -> str:
    """Precision, recall and AP of the released evaluation, all classes and each."""
    if not len(scores.classes):
        return "no labels: no precision, recall or AP"
    rows: list[tuple] = [
        ("all", scores.precision.mean(), scores.recall.mean(), scores.ap[:, 0].mean(), scores.ap.mean())
    ]
    for i, label in enumerate(scores.classes):
        rows.append(
            (
                class_names[int(label)],
                scores.precision[i],
                scores.recall[i],
                scores.ap[i, 0],
                scores.ap[i].mean(),
            )
        )
    width = max(len(row[0]) for row in rows)
    lines = [
        f" {name:<{width}}  P {p:.4f}  R {r:.4f}  mAP@.5 {a:.4f}  mAP@.5:.95 {m:.4f}"
        for name, p, r, a, m in rows
    ]
    return "\n".join([f"as Seq-YOLO counts, P and R at score {seqyolo_ap.REPORT_SCORE}:", *lines])


class _Released:
    """Gathers hits; matching is in network pixels, as released."""

    def __init__(self):
        self._hits, self._scores, self._labels, self._truth = [], [], [], []

    def add(self, found: Found, boxes: np.ndarray, labels: np.ndarray) -> None:
        """One image: its detections and its labelled `boxes` [M, 4] in pixels of the image."""
        labels = labels.astype(int)
        inside = letterbox.to_network(boxes, found.placement)
        self._hits.append(seqyolo_ap.correct(found.network_boxes, found.labels, inside, labels))
        self._scores.append(found.scores)
        self._labels.append(found.labels)
        self._truth.append(labels)

    def scores(self) -> seqyolo_ap.Scores:
        if not self._truth:
            raise InputError("no image could be read: nothing to measure")
        hits, scores, labels, truth = (
            np.concatenate(parts) for parts in (self._hits, self._scores, self._labels, self._truth)
        )
        return seqyolo_ap.ap_per_class(hits, scores, labels, truth)


def _corners(rows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Label rows (class, centre, size as fractions) -> boxes xyxy in pixels of an image of `size`."""
    x, y, w, h = rows[:, 1:].astype(np.float64).T
    height, width = size
    return np.stack([(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height], 1)


def _table(row: int, boxes: np.ndarray, labels, scores=None) -> coco.Boxes:
    xywh = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1)
    return coco.boxes(np.full(len(boxes), row), xywh, labels, scores)
