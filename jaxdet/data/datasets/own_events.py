"""Own recordings with own labels: found below a folder, matched by name, and divided into splits."""

from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from jaxdet.data.datasets import event_splits
from jaxdet.data.datasets.event_sets import EventSource, FoundSources
from jaxdet.data.events import conversion, label_files
from jaxdet.data.events.conversion import ConversionOptions
from jaxdet.data.events.label_files import Classes, LabelPart, recording_name
from jaxdet.errors import InputError
from jaxdet.files import finished, visible_name
from jaxdet.structs import ReadReport

SUFFIXES = (".dat", ".raw", ".h5", ".hdf5", ".npy", ".npz", ".csv", ".txt", ".aedat4")


def find(
    source: Path,
    labels: Path,
    classes: Classes,
    options: ConversionOptions,
    splits: str | None,
    session: str | None,
) -> FoundSources:
    """The recordings below `source` that have labels.

    `splits` and `session` are those of `event_splits.assign`. InputError if no labels belong to a recording.
    """
    problems: list[str] = []
    notes: list[str] = []
    if not source.is_dir():
        raise InputError(f"{source}: no such folder, expected recordings; check --source")
    paths = label_files.find(labels)
    events = _events(source, set(paths), problems)
    report = ReadReport()

    def size_of(name: str) -> tuple[int, int]:
        if name not in events:
            raise InputError(f"{labels}: labels of {name}, which is no recording below {source}")
        return conversion.sensor_of([events[name]], options)

    found = label_files.read(paths, size_of, report, problems)
    if report:
        notes.append(report.line(str(labels)))
    both = _matched(events, found, source, labels, problems, notes)
    places = {name: events[name].relative_to(source).as_posix() for name in both}
    split_of = event_splits.assign(places, splits, session, problems)
    sources = [
        EventSource(split_of[name], name, (events[name],), partial(classes.select, both[name]))
        for name in both
        if name in split_of
    ]
    return FoundSources(sorted(sources, key=lambda source: source[:2]), problems, notes)


def _events(source: Path, labels: set[Path], problems: list[str]) -> dict[str, Path]:
    """Files of events by the name of their recording: that of the file, or the path where two have it."""
    candidates = finished((p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES), source)
    paths = [p for p in candidates if p not in labels and p.is_file() and not p.stem.endswith("_bbox")]
    times = Counter(recording_name(path.name) for path in paths)
    found: dict[str, Path] = {}
    for path in paths:
        name = recording_name(path.name)
        if times[name] > 1:
            name = "__".join([*path.relative_to(source).parts[:-1], name])
        try:
            visible_name(name, f"{path}: name of a recording")
        except InputError as error:
            problems.append(str(error))
            continue
        if name in found:
            problems.append(f"{path}: left out, {found[name]} is called {name} too; rename one")
            continue
        found[name] = path
    return found


def _matched(
    events: dict[str, Path],
    found: dict[str, list[LabelPart]],
    source: Path,
    labels: Path,
    problems: list[str],
    notes: list[str],
) -> dict[str, list[LabelPart]]:
    """Labels of the recordings that have some; names without a partner become notes and problems."""
    both = {name: found[name] for name in events if name in found}
    if not both and not problems:
        raise InputError(
            f"no labels in {labels} belong to a recording below {source}: labels of "
            f"{_some(found)}, recordings {_some(events)}; expected equal names"
            + "".join(f"; {line}" for line in notes)
        )
    lone = [name for name in events if name not in found]
    if lone:
        notes.append(f"{len(lone)} recordings without labels left out: {_some(lone)}")
    strange = [name for name in found if name not in events]
    if strange:
        problems.append(f"{labels}: labels of {len(strange)} recordings that are not there: {_some(strange)}")
    return both


def _some(names: Iterable[str]) -> str:
    """The first of the names, for a message."""
    found = sorted(names)
    return ", ".join(found[:5]) + (", ..." if len(found) > 5 else "") if found else "none"
