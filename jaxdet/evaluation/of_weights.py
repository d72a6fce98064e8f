"""Metrics of a model on the data that its config or the user names."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxdet.data.events import recordings as prepared
from jaxdet.data.images import samples, sets
from jaxdet.errors import InputError
from jaxdet.evaluation import images as image_evaluation
from jaxdet.evaluation import recordings as on_recordings
from jaxdet.evaluation import seqyolo_ap
from jaxdet.evaluation.metrics import Metrics
from jaxdet.evaluation.protocols import PROTOCOLS
from jaxdet.inference import folded
from jaxdet.inference.events import Predictor
from jaxdet.inference.images import VIEWS, ImagePredictor, ItemPredictor
from jaxdet.nn.functional import Skeleton, Variables


@dataclass
class Evaluation:
    """Metrics, and what is said after them."""

    metrics: Metrics
    seqyolo: str = ""  # Seq-YOLO's own figures as lines, for images with YOLO text
    problems: list[str] = field(default_factory=list)  # why the numbers are not those of the whole set


def of_recordings(
    data: Any,
    skeleton: Skeleton,
    variables: Variables,
    *,
    split: str | None = None,
    protocol: str = "hmnet",
    lanes: int = 1,
    full: bool = False,
    fast: bool = False,
    backend: str = "pycocotools",
) -> Evaluation:
    """Metrics of a detector of events on a split of the `data` block, by default its test split.

    `lanes` recordings run side by side, `full` runs neck and head at every step, `fast` takes Winograd convolutions.
    """
    skeleton, variables = folded.prepare(skeleton, variables, fast)
    found = [prepared.open_recording(path) for path in prepared.find(data.root, split or data.test_split)]
    metrics = on_recordings.evaluate(
        Predictor(skeleton, variables, lanes, lanes, class_names=tuple(data.classes)),
        found,
        tuple(data.event_buckets),
        PROTOCOLS[protocol],
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
    """Metrics of a detector of images: of `images` with COCO `annotations` or YOLO text beside, or of a split."""
    names = tuple(data.classes)
    predictor = ItemPredictor(data, ImagePredictor(skeleton, variables, VIEWS[tta], fast))
    if images is None:
        if annotations is not None:
            raise InputError("--annotations without --images; which folder are the annotated images in?")
        if "root" not in data:
            raise InputError("missing --images; the config names no data set")
        items, rows, report = samples.open_set(data.root, split or data.test_split, names)
        result = image_evaluation.with_labels(predictor, items, rows, names, backend, report)
    elif annotations is not None:
        result = image_evaluation.annotated(predictor, images, annotations, names, backend)
    else:
        result = image_evaluation.labelled(predictor, sets.open_input(images), names, backend)
    evaluation = Evaluation(result.metrics)
    if result.seqyolo is not None:
        evaluation.seqyolo = seqyolo_ap.table(result.seqyolo, names)
    if result.num_missing and not allow_missing:
        evaluation.problems.append(
            f"{result.num_missing} annotated images are not in {images} and took no part; add them or give "
            "--allow_missing"
        )
    if result.num_skipped:
        evaluation.problems.append(f"{result.num_skipped} images could not be read, named above")
    return evaluation
