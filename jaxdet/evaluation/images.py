"""Metrics of an image detector, against COCO annotations or YOLO text, the latter also as Seq-YOLO counts."""

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdet import distributed, terminal
from jaxdet.data.images import letterbox, samples, scenes, sets
from jaxdet.data.images.sets import ImageItem
from jaxdet.errors import InputError
from jaxdet.evaluation import labels as label_sets
from jaxdet.evaluation import seqyolo_ap
from jaxdet.evaluation.evaluator import evaluate
from jaxdet.evaluation.metrics import Metrics
from jaxdet.formats import coco
from jaxdet.inference.images import ImageResult, PredictsItems
from jaxdet.structs import Boxes, ReadReport

logger = logging.getLogger(__name__)


class Result(NamedTuple):
    """Metrics, and the number of images that could not be measured."""

    metrics: Metrics
    seqyolo: seqyolo_ap.Scores | None  # None unless the labels are YOLO text
    num_missing: int  # annotated images that are not in the folder
    num_skipped: int  # images that could not be read


def annotated(
    predictor: PredictsItems,
    folder: str | Path,
    annotations: str | Path,
    class_names: Sequence[str],
    backend: str = "pycocotools",
    class_map: Mapping[str, str] | None = None,
    part: str = "",
) -> Result:
    """Metrics of the images in `folder` that COCO annotations name, or of a `part` of them (see `scenes`).

    Classes are matched by name, that of `class_map` if it has one; `class_names` are the detector's.
    Annotated images that are missing from the folder are counted and left out; unreadable images count as
    images without detections.

    Raises InputError if all are missing, or if boxes are annotated of a class that the detector does not
    have.
    """
    known = coco.renamed(coco.read_annotations(annotations), class_names, class_map or {})
    items, missing = sets.from_coco(scenes.chosen(known.frames, part, str(annotations)), folder)
    if not items:
        raise InputError(
            f"{folder}: none of the {len(missing)} images of {annotations} exists; "
            "give the folder of the images"
        )
    # Shapes of batches follow the files; sizes in annotations are wrong at times.
    items = [item._replace(size=None) for item in items]
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
    """Annotated classes that the detector has; InputError if it lacks one of which boxes are annotated."""
    used = {int(label) for boxes in known.frames for label in np.unique(boxes.labels)}
    strange = [i for i, name in enumerate(known.class_names) if name not in class_names]
    for i in strange:
        if i in used:
            raise InputError(
                f"{path}: class {known.class_names[i]!r} is not among the detector's {len(class_names)}; "
                "check data.classes of the config, or give --class_map"
            )
    if strange:
        names = ", ".join(known.class_names[i] for i in strange[:5])
        logger.info(
            "%s: %d categories without boxes are not among the detector's: %s", path, len(strange), names
        )
    return tuple(name for i, name in enumerate(known.class_names) if i not in strange)


def _shared(predictor: PredictsItems, items: Sequence[ImageItem]) -> Iterable[ImageResult]:
    """Detections of all images, in the same order for any number of processes, which divide the batches."""
    share = distributed.index(), distributed.count()
    found = terminal.track(predictor.items(items, sort=True, share=share), "evaluate", len(items), "images")
    own = list(distributed.report_each(found, "working on its images"))
    return itertools.chain.from_iterable(
        distributed.gather(own, ImageResult, Boxes, ImageItem, letterbox.Placement)
    )


def labelled(
    predictor: PredictsItems,
    items: Sequence[ImageItem],
    class_names: Sequence[str],
    backend: str = "pycocotools",
    report: ReadReport | None = None,
) -> Result:
    """Metrics of images whose YOLO text lies in `labels/` beside `images/`, and the metrics of Seq-YOLO.

    An image without a label file has no objects.
    """
    report = ReadReport() if report is None else report
    items, rows = samples.with_labels(items, len(class_names), report)
    return with_labels(predictor, items, rows, class_names, backend, report)


def with_labels(
    predictor: PredictsItems,
    items: Sequence[ImageItem],
    rows: Sequence[np.ndarray],
    class_names: Sequence[str],
    backend: str = "pycocotools",
    report: ReadReport | None = None,
) -> Result:
    """Metrics of images with label rows [M, 5], and the metrics of Seq-YOLO.

    A row has the class, then centre and size as fractions of the image. Images that cannot be read count as
    images without labels and detections.
    """
    position = {item.image_id: i for i, item in enumerate(items)}
    skipped = predictor.num_skipped
    labels = [Boxes.none(source=item.source) for item in items]
    found, hits = [], seqyolo_ap.Hits()
    for result in _shared(predictor, items):
        row = position[result.item.image_id]
        labels[row] = label_sets.of_image(result.item, rows[row], result.placement.size)
        found.append(result.boxes)
        # The released code matches in pixels of the network input.
        inside = letterbox.to_network(labels[row].xyxy, result.placement)
        hits.add(result.network_boxes, result.boxes.scores, result.boxes.labels, inside, labels[row].labels)
    metrics = evaluate(found, labels, "coco", class_names, backend, report)
    num_skipped = sum(distributed.gather(predictor.num_skipped - skipped))
    return Result(metrics, hits.scores(), 0, num_skipped)
