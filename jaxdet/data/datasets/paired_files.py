"""Sets as Prophesee lays them out: `<session>_td.*` and `<session>_bbox.npy` below the folders of splits.

A folder belongs to the split whose name is a word of its own, such as `train`, `test_b` or `val_h5_1`; the
nearest one counts.
"""

import re
from functools import partial
from pathlib import Path

from jaxdet.data.datasets.event_sets import EventSource, FoundSources
from jaxdet.data.datasets.preparation import SPLITS
from jaxdet.data.events import label_files
from jaxdet.data.events.label_files import Classes, RecordingLabels
from jaxdet.errors import InputError
from jaxdet.files import finished, visible_name
from jaxdet.formats import npy
from jaxdet.structs import ReadReport

# Later ones are left out where a session has several.
EVENTS = ("_td.dat", "_td.h5", "_td.dat.h5", "_td.raw")
BOXES = "_bbox.npy"


def find(source: Path, classes: Classes, labels: Path | None = None) -> FoundSources:
    """The pairs below `source`; label files are sought below `labels` where it is given.

    Files without a partner become problems. InputError if there is no such folder.
    """
    for folder in (source, labels or source):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder, expected train, val and test below; check the flags")
    problems: list[str] = []
    notes: list[str] = []
    events: dict[tuple[str, str], Path] = {}
    for suffix in EVENTS:
        for key, path in _by_session(source, suffix, problems).items():
            if key in events:
                notes.append(f"{path}: left out beside {events[key].name}")
            else:
                events[key] = path
    boxes = _by_session(labels or source, BOXES, problems)
    for (split, name), path in sorted(events.items()):
        if (split, name) not in boxes:
            problems.append(f"{path}: no {name}{BOXES} in split {split}; copy or extract it too")
    for (split, name), path in sorted(boxes.items()):
        if (split, name) not in events:
            problems.append(f"{path}: no {name}_td of {', '.join(EVENTS)} in split {split}")
    sources = [
        EventSource(*key, (path,), partial(_labels, classes, boxes[key]))
        for key, path in sorted(events.items())
        if key in boxes
    ]
    return FoundSources(sources, problems, notes)


def _labels(classes: Classes, path: Path, report: ReadReport) -> RecordingLabels:
    part = label_files.of_table(npy.read_table(path), path.name.removesuffix(BOXES), str(path), report)
    return classes.select([part], report)


def _by_session(root: Path, suffix: str, problems: list[str]) -> dict[tuple[str, str], Path]:
    found: dict[tuple[str, str], Path] = {}
    for path in finished((p for p in root.rglob(f"[!.]*{suffix}") if p.is_file()), root):
        split = _split(path.relative_to(root.parent))
        name = path.name.removesuffix(suffix)
        if split is None:
            problems.append(f"{path}: left out, in no folder called train, val or test; rename it")
            continue
        try:
            visible_name(name, f"{path}: name of a recording")
        except InputError as error:
            problems.append(str(error))
            continue
        if (split, name) in found:
            problems.append(f"{path}: left out, {found[split, name]} is the same session of split {split}")
            continue
        found[split, name] = path
    return found


def _split(path: Path) -> str | None:
    for part in reversed(path.parts[:-1]):
        split = next((word for word in re.split(r"[_. -]", part) if word in SPLITS), None)
        if split is not None:
            return split
    return None
