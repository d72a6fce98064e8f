"""Metrics of changing weights on one split of a data set, for validation in training and for soups."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxdet.data.events import recordings
from jaxdet.data.images import samples
from jaxdet.errors import InputError
from jaxdet.evaluation import images as image_evaluation
from jaxdet.evaluation import recordings as on_recordings
from jaxdet.evaluation import seqyolo_ap
from jaxdet.evaluation.metrics import Metrics
from jaxdet.inference.events import Predictor
from jaxdet.inference.images import ImagePredictor, ItemPredictor
from jaxdet.nn.functional import Skeleton, Variables

_MOST_LANES = 4


class Measured(NamedTuple):
    """Metrics, and the number by which weights are compared."""

    metrics: Metrics
    fitness: float  # recordings: AP; images: 0.1 AP50 + 0.9 AP, as released


Measure = Callable[[Variables], Measured]


def measure(data: Any, skeleton: Skeleton, split: str) -> Measure:
    """A function that measures weights of the model on `split` of the `data` block.

    Raises InputError for missing or wrong labels.
    """
    if data.kind == "images":
        return _of_images(data, skeleton, split)
    return _of_recordings(data, skeleton, split)


def _of_recordings(data, skeleton, split) -> Measure:
    found = [recordings.open_recording(path) for path in recordings.find(data.root, split)]
    lanes, names = min(_MOST_LANES, len(found)), tuple(data.classes)

    def measured(variables: Variables) -> Measured:
        predictor = Predictor(skeleton, variables, lanes, head_batch=lanes)
        metrics = on_recordings.evaluate(predictor, found, tuple(data.event_buckets), class_names=names)
        return Measured(metrics, metrics.ap)

    return measured


def _of_images(data, skeleton, split) -> Measure:
    names = tuple(data.classes)
    labelled = samples.open_split(data, split)
    running: list[tuple[ImagePredictor, ItemPredictor]] = []

    def measured(variables: Variables) -> Measured:
        if running:
            running[0][0].use(variables)
        else:
            predictor = ImagePredictor(skeleton, variables)
            running.append((predictor, ItemPredictor(data, predictor)))
        items, rows, report = labelled
        result = image_evaluation.with_labels(running[0][1], items, rows, names, report=report)
        if result.num_skipped:
            raise InputError(
                f"{data.root}: {result.num_skipped} images of {split} could not be read, named above"
            )
        assert result.seqyolo is not None
        ap = result.seqyolo.ap
        return Measured(result.metrics, seqyolo_ap.fitness(float(ap[:, 0].mean()), float(ap.mean())))

    return measured
