"""Metrics of any stream of boxes against labels, by a protocol: the only evaluator of this package.

Boxes come from a model or from files of any format; the same boxes give the same numbers.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from jaxdet.errors import InputError
from jaxdet.evaluation import coco, matching, protocols, used_labels
from jaxdet.evaluation.metrics import Metrics
from jaxdet.evaluation.protocols import Protocol
from jaxdet.evaluation.used_labels import UsedLabels
from jaxdet.formats import names
from jaxdet.structs import Boxes, ReadReport

NAMES = ("coco", *protocols.NAMES)


class Matched(NamedTuple):
    """Boxes as they were compared; `image` of both tables indexes `images`."""

    truth: coco.Table
    found: coco.Table
    images: list[Boxes]  # labelled images, or labelled times of recordings, without their boxes


def evaluate(
    found: Iterable[Boxes],
    labels: Iterable[Boxes],
    protocol: str | Protocol,
    class_names: Sequence[str],
    backend: str = "pycocotools",
    report: ReadReport | None = None,
) -> Metrics:
    """COCO metrics of `found` against `labels`, over the classes `class_names`.

    Protocol "coco" compares image by image: each of `labels` is one image, and a labelled image that `found`
    lacks counts as an image without detections. The protocols of recordings compare by time: the frames of
    one recording must follow each other, and a frame without boxes and time stands for a recording without
    boxes. Classes are matched by name where the boxes name them; otherwise their labels index `class_names`.
    A protocol of recordings given by name takes the camera's rules from the extent of the labels; of the
    classes, it scores those that it knows, and what it leaves out is counted in `metrics.protocol_line`.
    `report` counts what was left out in reading; the metrics carry it, with what could not be compared added.

    Raises InputError if nothing can be compared (no image, recording or class of `found` is among the
    labels), or if detections or labels of a recording are missing.
    """
    if isinstance(protocol, str) and protocol not in NAMES:
        raise InputError(f"protocol {protocol!r}; expected one of {', '.join(NAMES)}")
    labels = list(labels)
    used = None
    if isinstance(protocol, Protocol):
        used = used_labels.select(labels, protocol, class_names)
    elif protocol != "coco":
        used = used_labels.select(labels, protocols.for_labels(protocol, labels), class_names)
    counts = ReadReport()
    if report is not None:
        counts.merge(report)
    scored = tuple(class_names) if used is None else used.class_names
    classes = _Classes(class_names, scored, counts)
    if used is None:
        labels = [classes.labels(boxes) for boxes in labels]
        matched = _by_image(map(classes.found, found), labels, counts)
    else:
        matched = _by_time(map(classes.found, found), used)
    classes.check()
    metrics = coco.average_precision(*matched[:2], len(matched.images), scored, backend)
    metrics.report.merge(counts)
    line = "" if used is None else used.line(classes.num_unscored)
    return replace(metrics, matched=matched, protocol_line=line)


class _Classes:
    """Maps the labels of boxes to the evaluated classes, by name; boxes without names index `class_names`."""

    def __init__(self, class_names: Sequence[str], scored: Sequence[str], report: ReadReport):
        self._all, self._names, self._report = tuple(class_names), tuple(scored), report
        self._index = {name: i for i, name in enumerate(self._names)}
        self._known: dict[tuple[str, ...], np.ndarray] = {}
        self._num_found = self._num_kept = 0
        self.num_unscored = 0  # detections of classes that the labels have and the protocol does not score

    def labels(self, boxes: Boxes) -> Boxes:
        """Labelled boxes in the evaluated classes; InputError for a label of another class."""
        order = self._order(boxes)
        if order is None:
            return boxes
        new = order[boxes.labels]
        if (new < 0).any():
            name = boxes.class_names[int(boxes.labels[new < 0][0])]
            raise InputError(
                f"{names.file_name(boxes)}: a label of class {name!r}, "
                f"expected one of {', '.join(self._names)}"
            )
        return _with_labels(boxes, new)

    def found(self, boxes: Boxes) -> Boxes:
        """Detected boxes of the evaluated classes; others are dropped and counted."""
        order = self._order(boxes)
        if order is None:
            self._num_kept += len(boxes)
            return boxes
        new = order[boxes.labels]
        known = new >= 0
        self._num_found += len(known)
        self._num_kept += int(known.sum())
        if known.all():
            return _with_labels(boxes, new)
        dropped = [(boxes.class_names or self._all)[label] for label in boxes.labels[~known].tolist()]
        foreign = [name for name in dropped if name not in self._all]
        self.num_unscored += len(dropped) - len(foreign)
        if foreign:
            self._report.add("detections of classes that are not evaluated", len(foreign), foreign[0])
        return _with_labels(boxes.take(known), new[known])

    def check(self) -> None:
        """Raise InputError if there were detections, but not one of an evaluated class."""
        if self._num_found and not self._num_kept and not self.num_unscored:
            other = next(iter(self._known))
            raise InputError(
                f"no class of the detections ({_some(other)}) is among the labelled ones "
                f"({_some(self._names)}); expected common names"
            )

    def _order(self, boxes: Boxes) -> np.ndarray | None:
        """Evaluated class of each class of the boxes, -1 for others; None if the two lists are the same."""
        class_names = boxes.class_names or self._all
        if class_names == self._names:
            return None
        if class_names not in self._known:
            order = np.array([self._index.get(name, -1) for name in class_names], np.int32)
            self._known[class_names] = order
        outside = (boxes.labels < 0) | (boxes.labels >= len(class_names))
        if outside.any():
            raise InputError(
                f"{names.file_name(boxes)}: class {boxes.labels[outside][0]} found, expected 0 to "
                f"{len(class_names) - 1}"
            )
        return self._known[class_names]


def _with_labels(boxes: Boxes, labels: np.ndarray) -> Boxes:
    return replace(boxes, labels=labels, class_names=())


def _some(class_names: Sequence[str]) -> str:
    more = f" and {len(class_names) - 5} more" if len(class_names) > 5 else ""
    return ", ".join(class_names[:5]) + more


def _by_image(found: Iterable[Boxes], labels: list[Boxes], report: ReadReport) -> Matched:
    if not labels:
        raise InputError("no labelled image found; expected at least one to compare with")
    found = list(found)
    tables = []
    for boxes, position in zip(found, matching.positions(labels, found), strict=True):
        if position is None:
            report.add("images with detections but without labels", where=names.file_name(boxes))
        else:
            tables.append(_table(position, boxes, boxes.scores))
    truth = [_table(i, boxes, None) for i, boxes in enumerate(labels)]
    images = [boxes.take(slice(0)) for boxes in labels]
    return Matched(coco.concatenate(truth), coco.concatenate(tables), images)


def _table(image: int, boxes: Boxes, scores) -> coco.Table:
    xywh = boxes.xywh
    # In float64 for boxes of every source: text files hold no float32.
    area = xywh[:, 2].astype(np.float64) * xywh[:, 3] if boxes.area is None else boxes.area
    return coco.table(np.full(len(boxes), image), xywh, boxes.labels, scores, area, boxes.crowd)


def _by_time(found: Iterable[Boxes], used: UsedLabels) -> Matched:
    of_recording = used.of_recording
    truths, founds, images, seen = [], [], [], set()
    for name, frames in _recordings(found):
        if name in seen:
            raise InputError(
                f"detections of {name} are split by another recording; sort the file by recording"
            )
        if name not in of_recording:
            raise InputError(
                f"detections of {name}, which has no labels; labelled are {_some(list(of_recording))}"
            )
        seen.add(name)
        rows = protocols.rows(of_recording[name]), protocols.rows(frames)
        outputs = [boxes.time_us for boxes in frames if boxes.time_us is not None]
        times, of_truth, of_found = protocols.match(*rows, used.protocol, outputs)
        truths.append(of_truth._replace(image=of_truth.image + len(images)))
        founds.append(of_found._replace(image=of_found.image + len(images)))
        images += [Boxes.none(source=name, time_us=int(t_us)) for t_us in times]
    missing = sorted(set(of_recording) - seen)
    if missing:
        raise InputError(
            f"no detections of {missing[0]}; found {len(seen)} of {len(of_recording)} labelled recordings"
        )
    return Matched(coco.concatenate(truths), coco.concatenate(founds), images)


def _recordings(found: Iterable[Boxes]) -> Iterator[tuple[str, list[Boxes]]]:
    for name, frames in itertools.groupby(found, key=lambda boxes: boxes.source):
        frames = list(frames)
        timeless = [boxes for boxes in frames if boxes.time_us is None and len(boxes)]
        if timeless:
            raise InputError(
                f"{names.file_name(timeless[0])}: boxes without time; "
                "expected time_us, as this protocol compares by time"
            )
        yield name, frames
