"""Metadata that HMNet's authors distribute for GEN1: a safe reader, and its comparison with recordings.

`<folder>/<split>/meta.pkl`: {file name: (first event, number of events) of each of 60,000 milliseconds}.
`<folder>/<split>/gt_interval.csv`: header `name,interval`, then the label interval of each label file in
microseconds.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet import pickles
from jaxdet.data.events.recordings import Recording
from jaxdet.errors import InputError
from jaxdet.formats.text import read_text
from jaxdet.pickles import tables

NUM_MS = 60_000


_NAMES = pickles.Names(
    calls={**tables.CONTAINERS, **tables.ARRAYS},
    expected="a pickled dict of pairs of integer arrays",
    advice="download it again",
)


def read_meta(path: str | os.PathLike) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{file name: (first event, number of events)} of a meta.pkl; nothing in it is executed."""
    raw = pickles.load(path, _NAMES)
    if not isinstance(raw, dict):
        raise InputError(f"{path}: a {type(raw).__name__}; expected {_NAMES.expected}; download it again")
    return {name: _pair(pair, name, path) for name, pair in raw.items()}


def _pair(pair: Any, name: Any, path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    is_pair = isinstance(name, str) and isinstance(pair, (tuple, list)) and len(pair) == 2
    if not is_pair or not all(
        isinstance(a, np.ndarray) and a.ndim == 1 and a.dtype.kind in "iuf" for a in pair
    ):
        shown = repr(name)[:80]
        raise InputError(f"{path}: entry {shown}; expected {_NAMES.expected}; download it again")
    return np.asarray(pair[0]), np.asarray(pair[1])


def read_intervals(path: str | os.PathLike) -> dict[str, int]:
    """{label file name: label interval in microseconds} of a gt_interval.csv."""
    lines = read_text(path, "a list of metadata").splitlines()
    try:
        if lines[0].strip() != "name,interval":
            raise ValueError("another header")
        rows = (line.rsplit(",", 1) for line in lines[1:] if line.strip())
        return {Path(name).name: int(float(interval)) for name, interval in rows}
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(
            f"{path}: {error}; expected a header `name,interval` and lines like `a_bbox.npy,250000`; "
            "download it again"
        ) from error


def meta(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """(first event, number of events) of 60,000 milliseconds, int64, as the released scripts compute them.

    A millisecond without events points at the first event after it, or at 0 after the last event.
    """
    starts = np.full(NUM_MS + 1, recording.num_events)
    known = recording.ms_start[: NUM_MS + 1]
    starts[: len(known)] = known
    first = np.where(starts[:-1] < recording.num_events, starts[:-1], 0)
    return first, np.diff(starts)


def compare(recordings: Iterable[Recording], folder: str | os.PathLike) -> list[str]:
    """List the differences between the recordings of a split and the metadata in `folder`, a line each."""
    folder = Path(folder)
    metas = read_meta(folder / "meta.pkl") if (folder / "meta.pkl").exists() else None
    intervals = read_intervals(folder / "gt_interval.csv") if (folder / "gt_interval.csv").exists() else None
    lines = []
    for recording in recordings:
        if metas is not None:
            theirs = metas.pop(f"{recording.name}_td.npy", None)
            if theirs is None:
                lines.append(f"{recording.name}: not in the released meta.pkl")
            elif not all(np.array_equal(a, b) for a, b in zip(meta(recording), theirs)):
                lines.append(f"{recording.name}: millisecond index differs from the released meta.pkl")
        if intervals is not None:
            interval = intervals.pop(f"{recording.name}_bbox.npy", None)
            if interval != recording.label_interval_us:
                lines.append(
                    f"{recording.name}: label interval {recording.label_interval_us} us, "
                    f"gt_interval.csv says {interval}"
                )
    lines += [f"{name}: in the released meta.pkl, not among the prepared recordings" for name in metas or ()]
    lines += [f"{name}: in gt_interval.csv, not among the prepared recordings" for name in intervals or ()]
    return lines
