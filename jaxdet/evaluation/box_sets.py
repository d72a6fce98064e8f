"""Boxes of several detectors beside labels: of one list of classes, found by time or by image, matched."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdet.data.events import label_files
from jaxdet.detections import files
from jaxdet.errors import InputError
from jaxdet.evaluation import error_kinds
from jaxdet.evaluation.matching import ImageIndex
from jaxdet.formats import coco, names
from jaxdet.formats.text import read_json
from jaxdet.structs import Boxes, ReadReport

logger = logging.getLogger(__name__)

FALSE_ALARM, NOT_JUDGED = -1, -2


class BoxSet(NamedTuple):
    """Boxes of one detector, or the labels."""

    name: str
    frames: list[Boxes]
    class_names: tuple[str, ...]


class ByTime:
    """Frames of one recording, found by time."""

    def __init__(self, frames: Sequence[Boxes]):
        self._frames: list[Boxes] = []
        self._times = np.zeros(0, np.int64)
        self.add(frames)

    def add(self, frames: Iterable[Boxes]) -> None:
        self._frames += [boxes for boxes in frames if boxes.time_us is not None]
        self._frames.sort(key=lambda boxes: boxes.time_us or 0)
        self._times = np.array([boxes.time_us for boxes in self._frames], np.int64)

    def within(self, start_us: int, end_us: int) -> Boxes | None:
        """The last frame after `start_us` and up to `end_us`."""
        row = int(np.searchsorted(self._times, end_us, "right")) - 1
        return self._frames[row] if row >= 0 and self._times[row] > start_us else None

    def nearest(self, time_us: int, reach_us: int) -> Boxes | None:
        """The frame nearest to `time_us`, the earlier of two, if it is at most `reach_us` away."""
        if not len(self._times):
            return None
        row = int(np.abs(self._times - time_us).argmin())
        return self._frames[row] if abs(int(self._times[row]) - time_us) <= reach_us else None


def finder(frames: Sequence[Boxes]) -> Callable[[Boxes], Boxes | None]:
    index = ImageIndex(frames)

    def find(wanted: Boxes) -> Boxes | None:
        row = index.find(wanted)
        return None if row is None else frames[row]

    return find


def read(path: str | Path, report: ReadReport, name: str | None = None) -> BoxSet:
    """Boxes of a file in any format, COCO annotations included, called by `name` or that of the file.

    `report` counts what is left out of it.
    """
    name = name or Path(path).name
    content = None
    if Path(path).suffix.lower() == ".json":
        content = read_json(path, "COCO annotations or results")
    if isinstance(content, dict):
        known = coco.annotations_of(content, path)
        report.merge(known.report)
        return BoxSet(name, known.frames, known.class_names)
    found = files.read(path)
    report.merge(found.report)
    return BoxSet(name, found.frames, found.class_names)


def of_recording(boxes: BoxSet, name: str) -> BoxSet:
    """The boxes of one recording; of a file with a single one all, which is said if its name differs."""
    sources = {label_files.recording_name(frame.source) for frame in boxes.frames}
    untimed = next((frame for frame in boxes.frames if frame.time_us is None), None)
    if untimed is not None:
        raise InputError(f"{boxes.name}: {names.file_name(untimed)} has no time, which a recording needs")
    own = [frame for frame in boxes.frames if label_files.recording_name(frame.source) == name]
    if not sources or own:
        return boxes._replace(frames=own)
    if len(sources) > 1:
        raise InputError(f"{boxes.name}: boxes of {len(sources)} recordings, none of {name}")
    logger.info("%s: boxes of %s, taken for those of %s", boxes.name, sources.pop(), name)
    return boxes


def aligned(
    found: Sequence[BoxSet], truth: BoxSet | None, given: tuple[str, ...]
) -> tuple[list[BoxSet], BoxSet | None, tuple[str, ...]]:
    """All boxes with labels that index one list of classes, and the list.

    Files that name no classes are taken to have those that are given, or those of the first file that names
    any, which is logged. A label beyond the names is a class of its own.
    """
    everything = [*found] if truth is None else [*found, truth]
    assumed = given or next((one.class_names for one in everything if one.class_names), ())
    shown = ", ".join(assumed) if len(assumed) < 10 else f"{assumed[0]} ... {assumed[-1]}"
    for one in everything:
        if assumed and any(map(len, one.frames)) and not one.class_names:
            logger.info("%s names no classes; taken as %s", one.name, shown)

    def name(one: BoxSet, label: int) -> str:
        own = one.class_names or assumed
        return own[label] if label < len(own) else f"class_{label}"

    present = [np.unique([k for b in one.frames for k in np.unique(b.labels)]) for one in everything]
    named = [[name(one, int(k)) for k in labels] for one, labels in zip(everything, present, strict=True)]
    stated = (one.class_names for one in everything)
    classes = tuple(dict.fromkeys([*assumed, *(n for group in (*stated, *named) for n in group)]))
    moved = []
    for one, labels, own in zip(everything, present, named, strict=True):
        to = np.array([classes.index(n) for n in own], np.int32)
        frames = [
            replace(boxes, labels=to[np.searchsorted(labels, boxes.labels)], class_names=classes)
            for boxes in one.frames
        ]
        moved.append(BoxSet(one.name, frames, classes))
    return moved[: len(found)], None if truth is None else moved[-1], classes


def hits(found: Boxes, truth: Boxes | None) -> np.ndarray:
    """Row of the label that each box takes, as COCO matches them at IoU 0.5, best score first; int [n].

    Others are a FALSE_ALARM; NOT_JUDGED are boxes at a time without labels, and in regions. Whoever leaves
    out the boxes below a score changes nothing for those above, which had their choice before.
    """
    result = np.full(len(found), NOT_JUDGED)
    if truth is None or not len(found):
        return result
    order = np.argsort(-found.scores, kind="stable")
    crowd = np.zeros(len(truth), bool) if truth.crowd is None else truth.crowd
    iou = error_kinds.overlaps(found.xywh[order], truth.xywh, crowd)
    same = found.labels[order][:, None] == truth.labels[None]
    taken, in_region = error_kinds.take(iou, same, crowd)
    result[order] = np.where(in_region, NOT_JUDGED, taken)
    return result
