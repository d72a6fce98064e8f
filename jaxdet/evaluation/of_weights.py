"""Metrics of a model on a split of its data set, or on images that the user names."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxdet.data.events import recordings as prepared
from jaxdet.data.images import samples, sets
from jaxdet.errors import InputError
from jaxdet.evaluation import images as image_evaluation
from jaxdet.evaluation import labels as label_sets
from jaxdet.evaluation import ltdv2_board, protocols, seqyolo_ap
from jaxdet.evaluation import recordings as on_recordings
from jaxdet.evaluation.metrics import Metrics
from jaxdet.inference import folded
from jaxdet.inference.events import Predictor
from jaxdet.inference.images import VIEWS, ImagePredictor, ItemPredictor, PredictsItems
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.structs import ReadReport


@dataclass
class Evaluation:
    """Metrics, with what is reported beside them."""

    metrics: Metrics
    seqyolo: str = ""  # metrics of Seq-YOLO as lines, for images with YOLO text
    board: ltdv2_board.Score | None = None  # where it was asked for
    problems: list[str] = field(
        default_factory=list
    )  # reasons why the numbers are not those of the whole set


def of_recordings(
    data: Any,
    skeleton: Skeleton,
    variables: Variables,
    *,
    split: str | None = None,
    protocol: str = "hmnet",
    camera: str | None = None,
    lanes: int = 1,
    full: bool = False,
    fast: bool = False,
    backend: str = "pycocotools",
) -> Evaluation:
    """Metrics of an event detector on a split of the `data` block, by default its test split.

    `lanes` recordings are processed in parallel, `full` runs neck and head at every step, and `fast` uses
    Winograd convolutions. `camera` is a key of `protocols.CAMERAS`, by default the one that the labels fit.
    """
    skeleton, variables = folded.prepare(skeleton, variables, fast)
    found = [prepared.open_recording(path) for path in prepared.find(data.root, split or data.test_split)]
    metrics = on_recordings.evaluate(
        Predictor(skeleton, variables, lanes, lanes, class_names=tuple(data.classes)),
        found,
        tuple(data.event_buckets),
        protocols.for_labels(protocol, label_sets.of_recordings(found), camera),
        tuple(data.classes),
        full,
        backend,
    )
    return Evaluation(metrics)


def of_images(
    data: Any,
    skeleton: Skeleton,
    variables: Variables,
    *,
    images: str | Path | None = None,
    annotations: str | Path | None = None,
    split: str | None = None,
    tta: str = "none",
    fast: bool = False,
    backend: str = "pycocotools",
    allow_missing: bool = False,
) -> Evaluation:
    """Metrics of an image detector on `images`, or on a split of the `data` block, by default its test split.

    The labels of `images` are COCO `annotations`, or YOLO text beside the images. `tta` is a key of
    `inference.images.VIEWS`. Raises InputError if neither images nor a data set are given.
    """
    names = tuple(data.classes)
    predictor = ItemPredictor(data, ImagePredictor(skeleton, variables, VIEWS[tta], fast))
    if images is None:
        if annotations is not None:
            raise InputError(
                "--annotations without --images; give --images, the folder of the annotated images"
            )
        images, result = _of_split(data, predictor, split or data.test_split, backend)
    elif annotations is not None:
        result = image_evaluation.annotated(
            predictor, images, annotations, names, backend, dict(getattr(data, "class_map", {}))
        )
    else:
        report = ReadReport()
        items = sets.open_input(images, report)
        result = image_evaluation.labelled(predictor, items, names, backend, report)
    result.metrics.report.merge(predictor.report)
    evaluation = Evaluation(result.metrics)
    if result.seqyolo is not None:
        evaluation.seqyolo = seqyolo_ap.table(result.seqyolo, names)
    if result.num_missing and not allow_missing:
        evaluation.problems.append(
            f"{result.num_missing} annotated images are not in {images} and were left out; add them or give "
            "--allow_missing"
        )
    if result.num_skipped:
        evaluation.problems.append(f"{result.num_skipped} images could not be read, named above")
    return evaluation


def _of_split(
    data: Any, predictor: ItemPredictor, split: str, backend: str
) -> tuple[Path | None, image_evaluation.Result]:
    """Folder of the images, where the split has one with annotations, and the result on the split."""
    if "root" not in data:
        raise InputError("no images to measure on, and the config names no data set; give --images")
    names = tuple(data.classes)
    annotated = samples.annotated_split(data.root, split)
    if annotated is None:
        items, rows, report = samples.open_split(data, split)
        return None, image_evaluation.with_labels(predictor, items, rows, names, backend, report)
    # With regions and areas, which rows of labels do not have.
    folder, file, part = annotated.folder, annotated.file, annotated.part
    class_map = dict(getattr(data, "class_map", {}))
    return folder, image_evaluation.annotated(predictor, folder, file, names, backend, class_map, part)


def measure(
    data: Any, images: str | Path | None, annotations: str | os.PathLike
) -> Callable[[PredictsItems], float]:
    """A function to the AP of a predictor on COCO-annotated images. Raises InputError without images."""
    if data.kind != "images":
        raise InputError("--annotations are of images; this model is of events")
    if images is None:
        raise InputError("--annotations without --images; give --images, the folder of the annotated images")
    names, class_map = tuple(data.classes), dict(getattr(data, "class_map", {}))

    def average_precision(predictor: PredictsItems) -> float:
        return image_evaluation.annotated(
            predictor, images, Path(annotations), names, class_map=class_map
        ).metrics.ap

    return average_precision
