"""Streams of events from files: chunks, their order in time, and the text header of Prophesee files."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdet.errors import InputError
from jaxdet.structs import ReadReport

UNTIMED, RAISED = "events without a time", "times that ran backwards as the time before them"
CUT = "bytes after the last whole event"
SLACK_US = 10_000


class EventChunk(NamedTuple):
    """Consecutive events, one array entry each."""

    t_us: np.ndarray  # int64
    x: np.ndarray  # int16, column
    y: np.ndarray  # int16, row
    p: np.ndarray  # int8, 0 or 1

    @classmethod
    def none(cls) -> "EventChunk":
        """No events."""
        return cls(*(np.zeros(0, kind) for kind in (np.int64, np.int16, np.int16, np.int8)))

    def take(self, rows: slice | np.ndarray) -> "EventChunk":
        """The events of a slice, mask or index array."""
        return EventChunk(*(column[rows] for column in self))


class Header(NamedTuple):
    """Text header of a DAT or RAW file."""

    fields: dict[str, str]  # lower-case keys
    offset: int  # first byte after the header
    width: int | None
    height: int | None


class EventStream:
    """Events of one file in the order of the file, chunk by chunk; it can be iterated over repeatedly.

    `width` and `height` are None if the file does not state them. `report` counts, after an iteration, what
    was left out or changed: events without a time (EVT: before the first TIME_HIGH), an event cut in two.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        width: int | None,
        height: int | None,
        chunks: Callable[["EventStream"], Iterator[EventChunk]],
    ):
        self.path, self.kind, self.width, self.height = path, kind, width, height
        self.report = ReadReport()
        self._chunks = chunks

    def __iter__(self) -> Iterator[EventChunk]:
        self.report = ReadReport()
        num_events = 0
        for chunk in self._chunks(self):
            num_events += len(chunk.t_us)
            yield chunk
        untimed = self.report.counts[UNTIMED]
        if untimed and not num_events:
            raise InputError(
                f"{self.path}: {untimed} events and none has a time (no TIME_HIGH word), "
                "expected the time before the events; export or record it again"
            )

    def ordered(self, slack_us: int = SLACK_US) -> Iterator[EventChunk]:
        """Chunks in order of time; equal times keep the order of the file.

        Events up to `slack_us` late are sorted (EVT3 cameras emit some a few microseconds late); later ones
        get the time of the event before them, counted in `report`.
        """
        return ordered(self, slack_us, lambda count: self.report.note(RAISED, count))


def blocks(path: Path, dtype: np.dtype, offset: int, count: int, total: int) -> Iterator[np.ndarray]:
    """The `total` values from byte `offset` of a file on, at most `count` at a time.

    Files are not memory-mapped: what was read of a mapped file stays in memory, and access to one that was
    truncated kills the process.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        while total > 0:
            data = file.read(min(count, total) * dtype.itemsize)
            block = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
            if not len(block):
                return
            yield block
            total -= len(block)


def concatenate(chunks: Iterable[EventChunk]) -> EventChunk:
    """Concatenate chunks into one."""
    columns = list(zip(*chunks))
    if not columns:
        return EventChunk.none()
    return EventChunk(*(np.concatenate(column) for column in columns))


def columns(t_us: Any, x: Any, y: Any, polarity: Any) -> EventChunk:
    """Events [N] from columns of numbers; times are whole microseconds, coordinates whole pixels.

    InputError for fractions, for a polarity that `signs` refuses, or for columns of unequal length.
    """
    given = of_one_length(t_us, x, y, polarity)
    times = _whole(given[0], "t_us", "microseconds (of seconds, the millionfold)")
    x, y = (_whole(column, name, "pixels") for column, name in ((given[1], "x"), (given[2], "y")))
    return EventChunk(times, x, y, signs(given[3]))


def of_one_length(*columns: Any) -> list[np.ndarray]:
    """Columns t, x, y and polarity as arrays [N]; InputError if they are not of one length."""
    given = [np.asarray(column) for column in columns]
    if len({column.shape for column in given}) != 1 or given[0].ndim != 1:
        shapes = ", ".join(str(column.shape) for column in given)
        raise InputError(f"columns of shapes {shapes}; expected t, x, y and polarity of one length")
    return given


def _whole(column: np.ndarray, name: str, unit: str) -> np.ndarray:
    """Numbers [N] as int64; of floats those that are whole up to their rounding."""
    if column.dtype.kind == "f":
        finite = np.isfinite(column)
        rounded = np.rint(np.where(finite, column, 0))
        allowed = 1e-6 + 4 * np.spacing(np.abs(rounded))
        wrong = ~finite | (np.abs(np.where(finite, column, 0) - rounded) > allowed)
        if wrong.any():
            raise InputError(f"{name} holds {column[wrong][0]}; expected whole {unit}")
        column = rounded
    known = column.dtype.kind in "iuf"
    if not known or (len(column) and not -(2.0**63) <= column.min() <= column.max() < 2.0**63):
        raise InputError(f"{name} of type {column.dtype}; expected whole numbers below 2^63")
    return column.astype(np.int64, copy=False)


def signs(polarity: np.ndarray, name: str = "polarity") -> np.ndarray:
    """Polarities [N] as int8, 0 and 1, from 0 and 1, -1 and 1, or booleans.

    InputError, which begins with `name`, for other values.
    """
    if polarity.dtype == bool:
        return polarity.astype(np.int8)
    if polarity.dtype.kind not in "iuf":
        raise InputError(f"{name} of type {polarity.dtype}; expected 0 and 1, or -1 and 1")
    low, high = (polarity.min(), polarity.max()) if len(polarity) else (0, 0)
    if not -1 <= low <= high <= 1 or (low == -1 and (polarity == 0).any()):
        raise InputError(f"{name} from {low} to {high}; expected 0 and 1, or -1 and 1")
    return (polarity > 0).astype(np.int8)


def ordered(
    chunks: Iterable[EventChunk], slack_us: int, raised: Callable[[int], None] = lambda count: None
) -> Iterator[EventChunk]:
    """Chunks in order of time, see `EventStream.ordered`; `raised` is told of times that were raised."""
    held, newest = None, None
    for chunk in chunks:
        if not len(chunk.t_us):
            continue
        newest = int(chunk.t_us[0]) if newest is None else newest
        late = _latest_by(chunk.t_us, newest)
        if late > slack_us:
            before = np.maximum(np.maximum.accumulate(chunk.t_us), newest)
            too_late = before - chunk.t_us > slack_us
            raised(int(too_late.sum()))
            chunk = chunk._replace(t_us=np.where(too_late, before, chunk.t_us))
        newest = max(newest, int(chunk.t_us.max()))
        both = chunk if held is None else concatenate([held, chunk])
        # What is held is in order of time and at most slack_us old: only late events disturb it.
        if late:
            both = both.take(np.argsort(both.t_us, kind="stable"))
        cut = int(np.searchsorted(both.t_us, newest - slack_us, "right"))
        held = both.take(slice(cut, None))
        if cut:
            yield both.take(slice(0, cut))
    if held is not None and len(held.t_us):
        yield held


def _latest_by(t_us: np.ndarray, newest: int) -> int:
    """Largest delay in microseconds of a time behind `newest` or behind an earlier entry."""
    if t_us[0] >= newest and (t_us[1:] >= t_us[:-1]).all():
        return 0
    return int((np.maximum(np.maximum.accumulate(t_us), newest) - t_us).max())


def read_header(path: str | os.PathLike) -> Header:
    """Header of a DAT or RAW file, of text in any encoding; raises InputError for an empty file."""
    fields: dict[str, str] = {}
    offset = 0
    with open(path, "rb") as file:
        if not file.read(1):
            raise InputError(f"{path}: the file is empty, expected events; download or extract it again")
        file.seek(0)
        while _is_text(line := file.readline(4096), offset > 0):
            offset = file.tell()
            key, _, value = line[1:].decode(errors="replace").strip().partition(" ")
            if key.lower() == "end":
                break
            fields[key.lower()] = value.strip()
    return Header(fields, offset, *_geometry(fields))


def _is_text(line: bytes, inside: bool) -> bool:
    """True for a header line: binary data may begin with "% " too, but is not text up to its end.

    Only a line `inside` the header, after others, may be without a word.
    """
    if not (line.startswith(b"%") and line.endswith(b"\n")):
        return False
    word = re.match(rb"% ?[A-Za-z_]", line) is not None
    return (word or (inside and not line[1:].strip())) and not re.search(
        rb"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f]", line
    )


_SENSORS = (  # parts of plugin names -> width, height
    ("genx320", (320, 320)),
    ("gen4", (1280, 720)),
    ("imx636", (1280, 720)),
    ("evk4", (1280, 720)),
    ("gen3", (640, 480)),
)


def _geometry(fields: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Width and height of the sensor that a header states, or that its plugin has."""
    if match := re.fullmatch(r"(\d+)x(\d+)", fields.get("geometry", "")):
        return int(match[1]), int(match[2])
    settings = dict(re.findall(r"(\w+)=(\d+)", fields.get("format", "")))
    width, height = (fields.get(key, settings.get(key, "")) for key in ("width", "height"))
    if width.isdigit() and height.isdigit():
        return int(width), int(height)
    plugin = fields.get("plugin_name", "").lower()
    return next((size for part, size in _SENSORS if part in plugin), (None, None))
