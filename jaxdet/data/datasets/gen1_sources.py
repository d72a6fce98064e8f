"""The source files of GEN1: pairs of an event file and a box file, in folders or in 7z archives."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxdet import files
from jaxdet.data import archive
from jaxdet.data.datasets.preparation import SPLITS
from jaxdet.errors import InputError

EVENTS, BOXES = "_td.dat", "_bbox.npy"


class SourceFiles(NamedTuple):
    """Event file and box file of one recording: paths, or names inside an archive."""

    split: str
    name: str
    events: str
    boxes: str
    sizes: tuple[int, int]  # bytes


def find_sources(
    source: Path, problems: list[str]
) -> tuple[list[SourceFiles], list[tuple[Path, list[SourceFiles]]]]:
    """Find the pairs of extracted files below `source`, and the other pairs in its 7z archives.

    Files without a partner and archives that cannot be opened become lines of `problems`. Raises InputError
    when there is nothing to prepare.
    """
    if not source.exists():
        raise InputError(
            f"{source}: no such file or folder, expected the archives or files of the data set; "
            "check --source"
        )
    tree: list[SourceFiles] = []
    paths = [] if source.is_file() else [p for p in source.rglob("*") if p.name.endswith((EVENTS, BOXES))]
    tree = _pairs(((str(p), p.stat().st_size) for p in paths), "", problems)
    have = {pair[:2] for pair in tree}
    archives = []
    for path in [source] if source.is_file() else sorted(source.glob("*.7z")):
        try:
            members = _members(path, problems)
        except InputError as error:
            problems.append(str(error))
            continue
        archives.append((path, [p for p in _pairs(members, path.name, problems) if p[:2] not in have]))
    if not tree and not archives and not problems:
        raise InputError(
            f"{source}: found neither .7z archives nor train, val or test folders with *{EVENTS} and "
            f"*{BOXES}; check --source"
        )
    return tree, archives


def _members(path: Path, problems: list[str]) -> list[tuple[str, int]]:
    """Names and sizes of the event and box files in an archive; refused names are added to `problems`."""
    members: list[tuple[str, int]] = []
    refused: dict[str, str] = {}
    for member in archive.members(path):
        if member.name.endswith((EVENTS, BOXES)):
            try:
                archive.check_name(member.name)
                members.append((member.name, member.size))
            except InputError as error:
                refused.setdefault(member.name.removesuffix(EVENTS).removesuffix(BOXES), f"{path}: {error}")
    problems += refused.values()
    return members


def _pairs(found: Iterable[tuple[str, int]], archive_name: str, problems: list[str]) -> list[SourceFiles]:
    halves: dict[tuple[str, str], dict[str, tuple[str, int]]] = {}
    elsewhere: Counter[str] = Counter()
    for location, size in found:
        path = PurePosixPath(location)
        # Archives and the folders made of them are called test_a, test_b, ...
        names = (name.split("_")[0].split(".")[0] for name in (path.parent.name, archive_name))
        split = next((name for name in names if name in SPLITS), None)
        if split is None:
            elsewhere[str(path.parent)] += 1
            continue
        suffix = EVENTS if path.name.endswith(EVENTS) else BOXES
        halves.setdefault((split, path.name.removesuffix(suffix)), {})[suffix] = (location, size)
    for folder, count in sorted(elsewhere.items()):
        problems.append(
            f"{folder}: {count} files left out, as the folder is not called train, val or test; rename it"
        )
    pairs = []
    for (split, name), half in sorted(halves.items()):
        try:
            where = min(location for location, _ in half.values())
            files.visible_name(name, f"{where!a}: name of a recording")
        except InputError as error:
            problems.append(str(error))
            continue
        if len(half) == 2:
            (events, events_size), (boxes, boxes_size) = half[EVENTS], half[BOXES]
            pairs.append(SourceFiles(split, name, events, boxes, (events_size, boxes_size)))
        else:
            (present,) = half
            missing = BOXES if present == EVENTS else EVENTS
            problems.append(f"{split}/{name}{present}: no {name}{missing} beside it; copy or extract it too")
    return pairs
