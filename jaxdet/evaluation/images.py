"""Measure an image detector: against COCO annotations, or YOLO text with the released Seq-YOLO figures beside."""

import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdet import distributed
from jaxdet.data.images import letterbox, sets
from jaxdet.data.images.sets import ImageItem
from jaxdet.errors import InputError
from jaxdet.evaluation import labels as label_sets
from jaxdet.evaluation import seqyolo_ap
from jaxdet.evaluation.evaluator import evaluate
from jaxdet.evaluation.metrics import Metrics
from jaxdet.formats import coco, yolo
from jaxdet.inference.images import ImageResult, ItemPredictor
from jaxdet.structs import Boxes, ReadReport

logger = logging.getLogger(__name__)


class Result(NamedTuple):
    """Metrics, and what could not be measured."""

    metrics: Metrics
    seqyolo: seqyolo_ap.Scores | None  # of images with YOLO text
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
    known = coco.read_annotations(annotations)
    items, missing = sets.from_coco(known.frames, folder)
    if not items:
        raise InputError(f"{folder}: none of the {len(missing)} images of {annotations} is there")
    by_id = {boxes.image_id: boxes for boxes in known.frames}
    labels = [by_id[item.image_id] for item in items]
    evaluated = _evaluated(known, class_names, annotations)
    skipped = predictor.num_skipped
    names = tuple(class_names)
    found = [replace(result.boxes, class_names=names) for result in _shared(predictor, items)]
    metrics = evaluate(found, labels, "coco", evaluated, backend, known.report)
    num_skipped = sum(distributed.gather(predictor.num_skipped - skipped))
    return Result(metrics, None, len(missing), num_skipped)


def _evaluated(known: coco.Annotations, class_names: Sequence[str], path) -> tuple[str, ...]:
    """Annotated classes that the detector has. InputError if boxes are annotated of one that it has not."""
    used = {int(label) for boxes in known.frames for label in np.unique(boxes.labels)}
    strange = [i for i, name in enumerate(known.class_names) if name not in class_names]
    for i in strange:
        if i in used:
            raise InputError(
                f"{path}: class {known.class_names[i]!r} is not among the detector's {len(class_names)}; "
                "check data.classes of the config"
            )
    if strange:
        names = ", ".join(known.class_names[i] for i in strange[:5])
        logger.info("%s: %d categories without boxes are not the detector's: %s", path, len(strange), names)
    return tuple(name for i, name in enumerate(known.class_names) if i not in strange)


def _shared(predictor: ItemPredictor, items: Sequence[ImageItem]) -> Iterable[ImageResult]:
    """Detections of all images, in the order of one process; each process ran over its share of the batches."""
    share = distributed.index(), distributed.count()
    own = list(
        distributed.report_each(predictor.items(items, sort=True, share=share), "working on its images")
    )
    return itertools.chain.from_iterable(
        distributed.gather(own, ImageResult, Boxes, ImageItem, letterbox.Placement)
    )


def labelled(
    predictor: ItemPredictor,
    items: Sequence[ImageItem],
    class_names: Sequence[str],
    backend: str = "pycocotools",
) -> Result:
    """Metrics of images whose labels lie in `labels/` beside `images/`, and the figures Seq-YOLO reports.

    An image without a label file is one without objects.
    """
    report = ReadReport()
    rows = [yolo.read_labels(sets.label_path(i.path), len(class_names), report) for i in items]
    return with_labels(predictor, items, rows, class_names, backend, report)


def with_labels(
    predictor: ItemPredictor,
    items: Sequence[ImageItem],
    rows: Sequence[np.ndarray],
    class_names: Sequence[str],
    backend: str = "pycocotools",
    report: ReadReport | None = None,
) -> Result:
    """Metrics of images with rows [M, 5] (class, centre and size as fractions), and the figures Seq-YOLO reports.

    Images that cannot be read count as images without labels and boxes.
    """
    position = {item.image_id: i for i, item in enumerate(items)}
    skipped = predictor.num_skipped
    labels = [Boxes.none(source=item.source) for item in items]
    found, hits = [], seqyolo_ap.Hits()
    for result in _shared(predictor, items):
        row = position[result.item.image_id]
        labels[row] = label_sets.of_image(result.item, rows[row], result.placement.size)
        found.append(result.boxes)
        # The released code matches in pixels of the network.
        inside = letterbox.to_network(labels[row].xyxy, result.placement)
        hits.add(result.network_boxes, result.boxes.scores, result.boxes.labels, inside, labels[row].labels)
    metrics = evaluate(found, labels, "coco", class_names, backend, report)
    num_skipped = sum(distributed.gather(predictor.num_skipped - skipped))
    return Result(metrics, hits.scores(), 0, num_skipped)
