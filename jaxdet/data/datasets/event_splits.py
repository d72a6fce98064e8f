"""Splits of recordings: by folders, by a list or by fractions, with the recordings of a session together."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from jaxdet.data.datasets.preparation import SPLITS
from jaxdet.errors import InputError
from jaxdet.formats.text import read_text

DEFAULT = "0.7,0.15,0.15"
_EXPECTED = "fractions of train, val and test such as 0.8,0.1,0.1, or a list of lines such as `val NAME`"


def assign(
    places: Mapping[str, str], splits: str | None, session: str | None, problems: list[str]
) -> dict[str, str]:
    """Split of each recording; recordings without one are left out and named in `problems`.

    `places` maps names to paths relative to the source. `splits` is a file of lines `<split> <name or
    pattern>`, or three fractions; None: the folders train, val and test of the paths, else `DEFAULT`.
    `session` is a regular expression: recordings for which it finds the same text (its first group, if it has
    one) share a split. InputError for sessions that a list or folders divide.
    """
    sessions = _sessions(places, session)
    folders = {name: _folder(path) for name, path in places.items()}
    if splits is None and all(folders.values()):
        found = {name: split for name, split in folders.items() if split}
    elif splits is not None and Path(splits).is_file():
        found = _listed(Path(splits), list(places), problems)
    else:
        if splits is None and any(folders.values()):
            outside = [name for name, split in folders.items() if not split]
            raise InputError(
                f"recording {outside[0]} lies in none of the folders train, val and test, as others do; "
                "move it, or give --splits"
            )
        found = _drawn(_fractions(splits or DEFAULT), sessions)
    _check_sessions(found, sessions)
    return found


def _folder(path: str) -> str | None:
    parents = Path(path).parts[:-1]
    return next((part for part in parents if part in SPLITS), None)


def _sessions(places: Mapping[str, str], session: str | None) -> dict[str, str]:
    if session is None:
        return {name: name for name in places}
    try:
        pattern = re.compile(session)
    except re.error as error:
        raise InputError(f"--session={session}: {error}; expected a regular expression") from error
    found = {}
    for name, path in places.items():
        match = pattern.search(path)
        if match is None:
            raise InputError(f"--session={session} finds nothing in {path}; expected the name of a session")
        found[name] = match[1] if pattern.groups else match[0]
    return found


def _fractions(text: str) -> list[float]:
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError as error:
        raise InputError(f"--splits={text}: no such file; expected {_EXPECTED}") from error
    if len(values) != 3 or min(values) < 0 or not 0.999 <= sum(values) <= 1.001:
        raise InputError(f"--splits={text}: expected three fractions that add up to 1; {_EXPECTED}")
    return values


def _drawn(fractions: Sequence[float], sessions: Mapping[str, str]) -> dict[str, str]:
    """Sessions in an order that depends on their names alone, dealt out by numbers of recordings.

    Every split with a fraction gets at least one session.
    """
    members: dict[str, list[str]] = {}
    for name, session in sessions.items():
        members.setdefault(session, []).append(name)
    wanted = {split: share for split, share in zip(SPLITS, fractions, strict=True) if share}
    if len(members) < len(wanted):
        raise InputError(
            f"{len(members)} recordings or sessions for the splits {', '.join(wanted)}; expected one or more "
            "for each: cut recordings into parts, or give --splits, such as 0.5,0.5,0"
        )
    order = sorted(members, key=lambda session: hashlib.sha256(session.encode()).hexdigest())
    room = {split: share * len(sessions) for split, share in wanted.items()}
    found = dict.fromkeys(wanted, 0)
    result: dict[str, str] = {}
    for at, session in enumerate(order):
        empty = [split for split in wanted if not found[split]]
        left = len(order) - at
        choices = empty if left <= len(empty) else list(wanted)
        split = max(choices, key=lambda s: room[s] - found[s])
        found[split] += len(members[session])
        result |= dict.fromkeys(members[session], split)
    return result


def _listed(path: Path, names: Sequence[str], problems: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(path, _EXPECTED).splitlines(), 1):
        words = line.replace(",", " ").split(maxsplit=1)
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or words[0] not in SPLITS:
            raise InputError(f"{path}, line {number}: expected a split (train, val, test) and a name")
        split, pattern = words[0], words[1].strip()
        matching = [name for name in names if fnmatchcase(name, pattern)]
        if not matching:
            problems.append(f"{path}, line {number}: no recording {pattern}")
        for name in matching:
            if found.setdefault(name, split) != split:
                raise InputError(f"{path}: {name} in {found[name]} and {split}, expected one split")
    problems += [f"{name}: left out, not in {path}" for name in names if name not in found]
    return found


def _check_sessions(found: Mapping[str, str], sessions: Mapping[str, str]) -> None:
    splits: dict[str, dict[str, str]] = {}
    for name, split in found.items():
        splits.setdefault(sessions[name], {})[split] = name
    for session, where in splits.items():
        if len(where) > 1:
            (one, name), (other, second) = list(where.items())[:2]
            raise InputError(
                f"session {session}: {name} in {one} and {second} in {other}; "
                "expected the recordings of a session in one split"
            )
