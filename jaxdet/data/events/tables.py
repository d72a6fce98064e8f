"""Events as plain tables: `.npy`, `.npz`, and text with commas, semicolons or spaces.

Columns are known by name (t, x, y, p and what others call them), else by their values: times do not fall,
polarities have two values, the other two are x and y in this order. What was taken for what is logged. Times
are microseconds unless a name says otherwise (t_s, t_ms, t_ns) or they are fractions, which are seconds.
"""

import io
import logging
import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdet.data.events import streams
from jaxdet.data.events.streams import EventChunk, EventStream, signs
from jaxdet.errors import InputError
from jaxdet.structs import ReadReport

logger = logging.getLogger(__name__)

NAME = ".npy, .npz, .csv, .txt"
_ALIASES = {
    "t": ("t", "ts", "time", "timestamp", "timestamps", "t_us", "time_us", "timestamp_us"),
    "x": ("x", "col", "column", "xs"),
    "y": ("y", "row", "ys"),
    "p": ("p", "pol", "polarity", "polarities", "on", "ps"),
}
_UNITS = {"s": 1e6, "sec": 1e6, "ms": 1e3, "us": 1, "ns": 1e-3}
_SAMPLE = 4096
BETWEEN = "times with fractions of a microsecond, rounded"
FRACTIONS = "events between pixels, taken for the pixel that they lie in"
_DAMAGED = (
    *(ValueError, EOFError, OSError, KeyError, TypeError, SyntaxError, MemoryError, OverflowError),
    *(RuntimeError, NotImplementedError, RecursionError, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error),
)


class Columns(NamedTuple):
    """Places of the columns of events, and microseconds per unit of time."""

    names: tuple[Any, ...]  # of t, x, y, p: field names or numbers of columns
    scale: float


def matches(head: bytes, path: Path) -> bool:
    """True for NumPy files, and for text whose first line that is not a comment has numbers or names."""
    if head.startswith((b"\x93NUMPY", b"PK\x03\x04")):
        return True
    text = head.removeprefix(b"\xef\xbb\xbf")
    if not text.strip() or re.search(rb"[^\t\r\n\x20-\x7e]", text):
        return False
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith((b"#", b"%"))]
    return bool(lines) and len(_split(lines[0].decode())) >= 4


def open_stream(path: Path, chunk_events: int) -> EventStream:
    """Stream of a table; InputError for one without the four columns."""
    with open(path, "rb") as file:
        magic = file.read(6)
    if magic == b"\x93NUMPY":
        table = load(path)
        return _of_array(path, "npy", _checked(path, table), chunk_events)
    if magic.startswith(b"PK\x03\x04"):
        return _of_array(path, "npz", _of_npz(path), chunk_events)
    return _of_text(path, chunk_events)


def load(path: Path) -> Any:
    """The array of an .npy file, mapped into memory, or the arrays of an .npz file, by name.

    InputError for a damaged file and for objects.
    """
    try:
        with open(path, "rb") as file:  # closed also where NumPy refuses the file
            if file.read(2) == b"PK":
                file.seek(0)
                with np.load(file, allow_pickle=False) as archive:
                    return dict(archive)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGED as error:
        raise InputError(
            f"{path}: not a whole NumPy file of numbers ({type(error).__name__}); write or download it again"
        ) from error


def _of_npz(path: Path) -> Any:
    """The table of an archive: its columns by name, else its only array."""
    arrays = load(path)
    if len(arrays) == 1:
        return _checked(path, next(iter(arrays.values())))
    columns = named(list(arrays))
    if columns is None:
        raise InputError(f"{path}: arrays {', '.join(arrays)[:80]}; expected t, x, y and p among them")
    parts = [arrays[name] for name in columns.names]
    if (
        any(part.ndim != 1 or part.dtype.kind not in "iufb" for part in parts)
        or len({len(p) for p in parts}) > 1
    ):
        raise InputError(f"{path}: t, x, y and p are not columns of numbers of one length")
    table = np.empty(len(parts[0]), [(str(n), p.dtype) for n, p in zip(columns.names, parts)])
    for name, part in zip(columns.names, parts):
        table[str(name)] = part
    return table


def _checked(path: Path, table: np.ndarray) -> np.ndarray:
    plain = table.ndim == 2 and table.shape[1] >= 4 and table.dtype.kind in "iuf"
    if not plain and not (table.ndim == 1 and table.dtype.names):
        raise InputError(
            f"{path}: an array of shape {table.shape} of {table.dtype}; "
            "expected events as rows of t, x, y, p or fields of these names"
        )
    if table.dtype.names and {"w", "h"} <= set(table.dtype.names):
        raise InputError(f"{path}: boxes, not events; boxes are read by --detections and --labels")
    return table


def _of_array(path: Path, kind: str, table: np.ndarray, chunk_events: int) -> EventStream:
    parts, scale = _parts(path, table)

    def chunks(stream: EventStream) -> Iterator[EventChunk]:
        for start in range(0, len(table), chunk_events):
            cut = [part[start : start + chunk_events] for part in parts]
            yield _chunk(path, cut, scale, stream.report)

    return EventStream(path, kind, None, None, chunks)


def _parts(path: Path, table: np.ndarray) -> tuple[list[np.ndarray], float]:
    """Columns t, x, y, p of a table, and microseconds per unit of t."""
    if table.dtype.names:
        columns = _named(path, table.dtype.names)
        parts = [table[name] for name in columns.names]
    else:
        columns = guessed(path, np.asarray(table[:_SAMPLE]))
        parts = [table[:, index] for index in columns.names]
    return parts, _scale(path, parts[0][:_SAMPLE], columns.scale)


def _named(path: Path, names: Sequence[str]) -> Columns:
    columns = named(names)
    if columns is None:
        raise InputError(f"{path}: fields {', '.join(map(str, names))[:80]}; expected t, x, y and p")
    return columns


def in_memory(source: Any, report: ReadReport) -> EventChunk | None:
    """Events of a program: arrays (t_us, x, y, polarity), or a table as in a file; None for anything else.

    A table is an array with fields or of rows, or what gives columns by their names (a dictionary, a data
    frame). `report` counts what is converted. InputError for columns that are missing or hold no events.
    """
    path = Path("events")
    if isinstance(source, np.ndarray):
        parts, scale = _parts(path, _checked(path, source))
    elif callable(getattr(source, "keys", None)):
        columns = _named(path, list(source.keys()))
        parts = streams.of_one_length(*(source[name] for name in columns.names))
        scale = _scale(path, parts[0][:_SAMPLE], columns.scale)
    elif isinstance(source, (tuple, list)) and len(source) == 4 and all(map(_is_column, source)):
        return streams.columns(*source)
    else:
        return None
    return streams.columns(*_chunk(path, parts, scale, report))


def _is_column(part: Any) -> bool:
    return hasattr(part, "__array__") or isinstance(part, (list, tuple))


def _of_text(path: Path, chunk_events: int) -> EventStream:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        skipped, first = 0, ""
        for line in file:
            if line.strip() and not line.startswith(("#", "%")):
                first = line
                break
            skipped += 1
        sample = [first, *islice(file, _SAMPLE)]
    words = _split(first)
    columns = None if _is_number(words[0]) else named([word.lower() for word in words])
    if columns is None and not _is_number(words[0]):
        raise InputError(
            f"{path}: a header of {first.strip()[:60]!r}; expected t, x, y and p among its names"
        )
    header = columns is not None
    if header:
        order = [word.lower() for word in words]
        columns = columns._replace(names=tuple(order.index(name) for name in columns.names))
    rows = _parsed(path, sample[header:], 1 + skipped + header)
    columns = columns or guessed(path, rows)
    _check_width(path, rows, columns.names, 1 + skipped + header)
    scale = _scale(path, rows[:, columns.names[0]], columns.scale)

    def chunks(stream: EventStream) -> Iterator[EventChunk]:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            at = skipped + header
            for _ in islice(file, at):
                pass
            while lines := list(islice(file, chunk_events)):
                table = _parsed(path, lines, at + 1)
                _check_width(path, table, columns.names, at + 1)
                at += len(lines)
                if len(table):
                    yield _chunk(path, [table[:, index] for index in columns.names], scale, stream.report)

    return EventStream(path, "text", None, None, chunks)


def _check_width(path: Path, table: np.ndarray, used: tuple[Any, ...], first: int) -> None:
    """Raise InputError for rows that end before the last column used; `first` is the number of their line."""
    if len(table) and table.shape[1] <= max(used):
        raise InputError(
            f"{path}: from line {first} on: {table.shape[1]} columns, expected at least {max(used) + 1}"
        )


def _parsed(path: Path, lines: list[str], first: int) -> np.ndarray:
    """Numbers of lines, float64 [N, columns]; `first` is the number of the first line."""
    text = "".join(lines).replace(",", " ").replace(";", " ")
    if not text.strip():
        return np.zeros((0, 4))
    try:
        return np.loadtxt(io.StringIO(text), np.float64, comments=("#", "%"), ndmin=2)
    except ValueError as error:
        at = re.search(r"row (\d+)", str(error))
        # NumPy counts rows from 1 where their length changes, and from 0 where a word is no number.
        index = int(at[1]) - ("number of columns" in str(error)) if at else 0
        where = f"line {first + index}" if at else f"from line {first} on"
        raise InputError(f"{path}: {where}: expected numbers in the same columns as before") from error


def named(names: Any) -> Columns | None:
    """Columns by their names, None if one of the four is not there."""
    found, scale = [], 0.0
    for key, aliases in _ALIASES.items():
        for name in names:
            word, _, unit = str(name).lower().rpartition("_")
            if str(name).lower() in aliases or (key == "t" and word in aliases and unit in _UNITS):
                found.append(name)
                if key == "t" and unit in _UNITS and word:
                    scale = _UNITS[unit]
                break
        else:
            return None
    return Columns(tuple(found), scale)


def guessed(path: Path, rows: np.ndarray) -> Columns:
    """Columns of the first rows [N, columns] by their values; InputError if these leave a choice."""
    width = rows.shape[1]
    two = [i for i in range(width) if {*np.unique(rows[:, i]).tolist()} in _POLARITIES]
    rising = [i for i in range(width) if (np.diff(rows[:, i]) >= 0).all() and i not in two]
    if width == 4 and len(two) == 1 and len(rising) == 1:
        x, y = (i for i in range(4) if i not in (*two, *rising))
        order = (rising[0], x, y, two[0])
    elif width == 4 and 0 in rising and 3 in two:
        order = (0, 1, 2, 3)
    else:
        raise InputError(
            f"{path}: {width} columns without names whose values leave a choice; give it a header line or "
            "fields t, x, y, p"
        )
    _say(path.parent, path.name, ", ".join("txyp"[order.index(i)] for i in range(4)))
    return Columns(order, 0.0)


_told: dict[tuple[Path, str], str] = {}  # the file of a folder of which the order of columns was said


def _say(folder: Path, name: str, order: str) -> None:
    """Log the order of columns; of the files of a folder, which may be ten thousands, for the first alone."""
    if _told.setdefault((folder, order), name) == name:
        logger.info("%s: columns without names taken as %s, by their values", folder / name, order)


_POLARITIES = [{0.0, 1.0}, {-1.0, 1.0}, {0.0}, {1.0}, {-1.0}]


def _scale(path: Path, times: np.ndarray, stated: float) -> float:
    if stated:
        return stated
    times = np.asarray(times)
    if times.dtype.kind == "f" and len(times) and (times != np.floor(times)).any():
        logger.info("%s: times are fractions, taken as seconds; name the column t_us if they are not", path)
        return 1e6
    return 1


def _chunk(path: Path, parts: list[np.ndarray], scale: float, report: ReadReport) -> EventChunk:
    t, x, y, p = (np.asarray(part) for part in parts)
    for name, column in (("t", t), ("x", x), ("y", y), ("p", p)):
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            raise InputError(f"{path}: a value of {name} is not a number; expected finite values")
    for name, column in (("x", x), ("y", y)):
        if len(column) and not (column.min() >= -(1 << 15) and column.max() < 1 << 15):
            raise InputError(f"{path}: {name} of {column.max():g}, expected pixels below 32768")
    t_us = np.rint(t * scale) if scale != 1 or t.dtype.kind == "f" else t
    if scale == 1:  # of other units fractions are usual
        report.note(BETWEEN, int((t_us != t).sum()))
    whole = [np.floor(column) if column.dtype.kind == "f" else column for column in (x, y)]
    report.note(FRACTIONS, int(((whole[0] != x) | (whole[1] != y)).sum()))
    x, y = (column.astype(np.int16) for column in whole)
    return EventChunk(t_us.astype(np.int64), x, y, signs(p, f"{path}: p"))


def _split(line: str) -> list[str]:
    return [word.strip() for word in re.split(r"[,;\s]\s*", line.strip()) if word.strip()]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
