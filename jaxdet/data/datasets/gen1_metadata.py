"""The metadata that HMNet's authors distribute for GEN1, read without running what a pickle asks for, and compared.

`<folder>/<split>/meta.pkl`: {file name: (first event, number of events) of each of 60,000 milliseconds}.
`<folder>/<split>/gt_interval.csv`: header `name,interval`, then the label interval of each label file in microseconds.
"""

import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet.data.events.recordings import Recording
from jaxdet.errors import InputError

NUM_MS = 60_000


class _Dtype:
    """Stands in for numpy.dtype: numbers only."""

    def __init__(self, name: str, *_):
        self.dtype = np.dtype({"i8": "i8", "i4": "i4", "u4": "u4", "u8": "u8", "f8": "f8", "f4": "f4"}[name])

    def __setstate__(self, state):
        self.dtype = np.dtype({"<": "<", ">": ">", "|": "|"}[state[1]] + self.dtype.str[1:])


class _Array:
    """Stands in for numpy.ndarray: bytes, shape and dtype, checked before they meet numpy."""

    def __init__(self, *_):
        self.value = np.zeros(0)

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C").value


def _array(data, dtype: _Dtype, shape, order="C") -> _Array:
    result = _Array()
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array of another kind")
    result.value = np.frombuffer(data, dtype.dtype).reshape(shape, order=order)
    return result


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    """Knows arrays of numbers and the containers of the language; every other name ends the reading."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed") from None


def read_meta(path: str | os.PathLike) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{file name: (first event, number of events)} of a meta.pkl; nothing in it is executed."""
    try:
        with open(path, "rb") as file:
            raw = _Unpickler(file).load()
        return {str(name): (_column(pair[0]), _column(pair[1])) for name, pair in raw.items()}
    except OSError:
        raise
    except Exception as error:  # a broken pickle raises almost anything
        raise InputError(
            f"{path}: {type(error).__name__}: {error}; expected a pickled dict of pairs of integer arrays; "
            "download it again"
        ) from error


def _column(array):
    if not isinstance(array, _Array) or array.value.ndim != 1:
        raise ValueError("an entry is no flat array")
    return array.value


def read_intervals(path: str | os.PathLike) -> dict[str, int]:
    """{label file name: label interval in microseconds} of a gt_interval.csv."""
    lines = Path(path).read_text().splitlines()
    try:
        if lines[0].strip() != "name,interval":
            raise ValueError("another header")
        rows = (line.rsplit(",", 1) for line in lines[1:] if line.strip())
        return {Path(name).name: int(float(interval)) for name, interval in rows}
    except (ValueError, IndexError) as error:
        raise InputError(
            f"{path}: {error}; expected a header `name,interval` and lines like `a_bbox.npy,250000`; download it again"
        ) from error


def meta(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """(first event, number of events) of 60,000 milliseconds, int64, as the released scripts compute them.

    A millisecond without events points at the next one that has some; after the last event at 0.
    """
    starts = np.full(NUM_MS + 1, recording.num_events)
    known = recording.ms_start[: NUM_MS + 1]
    starts[: len(known)] = known
    first = np.where(starts[:-1] < recording.num_events, starts[:-1], 0)
    return first, np.diff(starts)


def compare(recordings: Iterable[Recording], folder: str | os.PathLike) -> list[str]:
    """Differences between prepared recordings of one split and the released metadata in `folder`, one line each."""
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
                lines.append(f"{recording.name}: another millisecond index than the released meta.pkl")
        if intervals is not None:
            interval = intervals.pop(f"{recording.name}_bbox.npy", None)
            if interval != recording.label_interval_us:
                lines.append(
                    f"{recording.name}: label interval {recording.label_interval_us} us, gt_interval.csv says {interval}"
                )
    lines += [f"{name}: in the released meta.pkl, not among the prepared recordings" for name in metas or ()]
    lines += [f"{name}: in gt_interval.csv, not among the prepared recordings" for name in intervals or ()]
    return lines
