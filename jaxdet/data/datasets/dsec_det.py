"""DSEC-Det, driving recordings of 640x480 pixels with boxes at the times of the images of a camera beside it.

{train,test}/<sequence>/events/left/events.h5
{train,test}/<sequence>/object_detections/left/tracks.npy   boxes in the view of the event camera
{train,test}/<sequence>/images/timestamps.txt   us, a line an image; those without a box count as labelled

Splits are the official ones; validation sequences lie in the folder train. Two classes, car and pedestrian,
are what most papers score; whether they leave out the other six or count bus and truck as cars is not
established. They are left out here unless `renamed` classes say otherwise.
"""

from functools import partial
from pathlib import Path

import numpy as np

from jaxdet import class_names
from jaxdet.data.datasets.event_sets import EventSource, FoundSources
from jaxdet.data.events import label_files
from jaxdet.data.events.label_files import Classes, RecordingLabels
from jaxdet.errors import InputError
from jaxdet.formats import npy
from jaxdet.formats.text import read_text
from jaxdet.structs import ReadReport

SIZE = (480, 640)  # height, width
CLASSES = {"8": class_names.DSEC_DET, "2": ("car", "pedestrian")}
EVENTS, TRACKS = "events/left/events.h5", "object_detections/left/tracks.npy"
IMAGES = "images/timestamps.txt"
FOLDERS = {"train": "train", "val": "train", "test": "test"}


def _named(places: str) -> tuple[str, ...]:
    """Names of sequences such as zurich_city_00_a of words such as zurich_city_00:ab."""
    words = (word.partition(":") for word in places.split())
    return tuple(f"{place}_{letter}" for place, _, letters in words for letter in letters)


SEQUENCES = {
    "train": _named(
        """thun_00:a interlaken_00:cdefg zurich_city_00:ab zurich_city_01:abcdef zurich_city_02:abcde
        zurich_city_03:a zurich_city_04:abcdef zurich_city_05:ab zurich_city_06:a zurich_city_07:a
        zurich_city_08:a zurich_city_09:abcde zurich_city_10:ab zurich_city_11:abc"""
    ),
    "val": _named(" ".join(f"zurich_city_{number}:a" for number in range(16, 22))),
    "test": _named(
        """thun_01:ab thun_02:a interlaken_00:ab interlaken_01:a zurich_city_12:a zurich_city_13:ab
        zurich_city_14:abc zurich_city_15:a"""
    ),
}


def find(source: Path, classes: Classes) -> FoundSources:
    """The official sequences below `source` with labels of `classes`; others and halves become problems.

    InputError if there is no such folder.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder, expected DSEC's train and test below; check --source")
    problems: list[str] = []
    sources: list[EventSource] = []
    absent = []
    for split, names in SEQUENCES.items():
        for name in names:
            folder = source / FOLDERS[split] / name
            missing = [part for part in (EVENTS, TRACKS) if not (folder / part).is_file()]
            if len(missing) == 2:
                absent.append(name)
            elif missing:
                problems.append(f"{folder}: no {missing[0]}; extract it too")
            else:
                sources.append(
                    EventSource(split, name, (folder / EVENTS,), partial(_labels, classes, folder))
                )
    official = {(FOLDERS[split], name) for split, names in SEQUENCES.items() for name in names}
    for path in sorted(path for part in ("train", "test") for path in (source / part).glob(f"*/{TRACKS}")):
        folder = path.parents[2]
        if (folder.parent.name, folder.name) not in official:
            problems.append(f"{folder}: left out, in no official split")
    shown = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
    notes = [f"{len(absent)} of {len(official)} official sequences are not there: {shown}"] if absent else []
    return FoundSources(sources, problems, notes)


def _labels(classes: Classes, folder: Path, report: ReadReport) -> RecordingLabels:
    tracks = folder / TRACKS
    part = label_files.of_table(npy.read_table(tracks), folder.name, str(tracks), report)
    images = folder / IMAGES
    times = _times(images) if images.is_file() else part.times_us
    part = part._replace(class_names=class_names.DSEC_DET, times_us=np.union1d(part.times_us, times))
    return classes.select([part], report)


def _times(path: Path) -> np.ndarray:
    expected = "times of images, whole microseconds, one a line"
    try:
        return np.array([int(line) for line in read_text(path, expected).split()], np.int64)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: {error}; expected {expected}") from error
