"""PEDRo, people seen by a DAVIS346 (346x260 pixels): samples of 40 ms of events with Pascal VOC boxes.

numpy/{train,val,test}/frameNNNNNNN.npy   int64 [N, 4]: t (us), x, y, p
xml/{train,val,test}/frameNNNNNNN.xml

The format of the set's list of recordings is not established, so that samples are joined by time: a sample,
in order of time, belongs to the recording of the one before if it begins at most `GAP_US` after that ended.
A recording of the set with longer pauses becomes several here. The time of a picture within its 40 ms is not
established either; boxes are taken to stand at the last event of their sample.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jaxdet.data.datasets.event_sets import EventSource, FoundSources
from jaxdet.data.datasets.preparation import SPLITS
from jaxdet.data.events import label_files, tables
from jaxdet.data.events.label_files import Classes, RecordingLabels
from jaxdet.errors import InputError
from jaxdet.files import finished
from jaxdet.formats import voc
from jaxdet.structs import ReadReport

SIZE = (260, 346)  # height, width
CLASSES = {"1": ("person",)}
GAP_US = 1_000_000


class _Sample(NamedTuple):
    first_us: int
    last_us: int
    events: Path
    boxes: Path


def find(source: Path, classes: Classes) -> FoundSources:
    """The recordings that the samples below `source` make; samples without labels become problems.

    InputError if there is no such folder.
    """
    if not (source / "numpy").is_dir():
        raise InputError(f"{source}: no folder numpy, expected PEDRo's numpy and xml; check --source")
    problems: list[str] = []
    sources = []
    for split in SPLITS:
        for samples in _joined(_samples(source, split, problems)):
            name = f"{split}_{samples[0].events.stem}"
            labels = partial(_labels, classes, name, samples)
            sources.append(EventSource(split, name, tuple(sample.events for sample in samples), labels))
    return FoundSources(sorted(sources, key=lambda source: source[:2]), problems, [])


def _samples(source: Path, split: str, problems: list[str]) -> list[_Sample]:
    """Samples of a split in order of time, without those that have no events or no labels."""
    found = []
    folder = source / "numpy" / split
    for path in finished(folder.glob("*.npy"), folder):
        boxes = source / "xml" / split / f"{path.stem}.xml"
        if not boxes.is_file():
            problems.append(f"{path}: no {boxes}; extract it too")
            continue
        try:
            found.append(_Sample(*_ends(path), path, boxes))
        except InputError as error:
            problems.append(str(error))
    return sorted(found)


def _ends(path: Path) -> tuple[int, int]:
    """Times of the first and last event of a sample, which is not read as a whole."""
    table = tables.load(path)
    if table.ndim != 2 or table.shape[1] != 4 or not len(table) or table.dtype.kind not in "iu":
        raise InputError(
            f"{path}: left out, {table.dtype} of shape {table.shape}; expected whole numbers [N, 4], N > 0"
        )
    return int(table[0, 0]), int(table[-1, 0])


def _joined(samples: list[_Sample]) -> list[list[_Sample]]:
    recordings: list[list[_Sample]] = []
    for sample in samples:
        if recordings and sample.first_us - recordings[-1][-1].last_us <= GAP_US:
            recordings[-1].append(sample)
        else:
            recordings.append([sample])
    return recordings


def _labels(classes: Classes, name: str, samples: list[_Sample], report: ReadReport) -> RecordingLabels:
    parts = []
    for sample in samples:
        content = voc.read(sample.boxes)
        report.merge(content.report)
        parts.append(label_files.of_boxes(replace(content.frames[0], source=name, time_us=sample.last_us)))
    return classes.select(parts, report)
