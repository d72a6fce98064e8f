"""Boxes of several detectors beside labels: of one list of classes, found by time or by image, matched."""

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
from jaxdet.structs import Boxes

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


def read(path: str | Path, name: str | None = None) -> BoxSet:
    """Boxes of a file in any format, COCO annotations included, called by `name` or that of the file."""
    name = name or Path(path).name
    if Path(path).suffix.lower() == ".json":
        content = read_json(path, "COCO annotations or results")
        if isinstance(content, dict):
            known = coco.annotations_of(content, path)
            return BoxSet(name, known.frames, known.class_names)
    found = files.read(path)
    return BoxSet(name, found.frames, found.class_names)


def of_recording(boxes: BoxSet, name: str) -> BoxSet:
    """The boxes of one recording; of a file with a single recording, all, whatever its name."""
    sources = {frame.source for frame in boxes.frames}
    untimed = next((frame for frame in boxes.frames if frame.time_us is None), None)
    if untimed is not None:
        raise InputError(f"{boxes.name}: {names.file_name(untimed)} has no time, which a recording needs")
    own = [frame for frame in boxes.frames if label_files.recording_name(frame.source) == name]
    if boxes.frames and not own and len(sources) > 1:
        raise InputError(f"{boxes.name}: boxes of {len(sources)} recordings, none of {name}")
    return boxes._replace(frames=own or boxes.frames)


def aligned(
    found: Sequence[BoxSet], truth: BoxSet | None, given: tuple[str, ...]
) -> tuple[list[BoxSet], BoxSet | None, tuple[str, ...]]:
    """All boxes with labels that index one list of classes, and the list.

    Files that name no classes are taken to have those that are given, or those of the first file that names
    any.
    """
    everything = [*found] if truth is None else [*found, truth]
    assumed = given or next((one.class_names for one in everything if one.class_names), ())
    most = max((int(b.labels.max()) + 1 for one in everything for b in one.frames if len(b)), default=0)
    assumed += tuple(f"class_{k}" for k in range(len(assumed), most))
    classes = tuple(dict.fromkeys([*assumed, *(name for one in everything for name in one.class_names)]))
    place = {name: number for number, name in enumerate(classes)}

    def moved(one: BoxSet) -> BoxSet:
        own = one.class_names or assumed
        to = np.array([place.get(name, 0) for name in (*own, *assumed[len(own) :])], np.int32)
        frames = [replace(boxes, labels=to[boxes.labels], class_names=classes) for boxes in one.frames]
        return BoxSet(one.name, frames, classes)

    return [moved(one) for one in found], None if truth is None else moved(truth), classes


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
