"""HDF5 files of events: those of RVT and eTraM, of DSEC, and of Prophesee's Metavision.

RVT, eTraM   group `events` of columns x, y, t, p (0, 1 or -1, 1), and as a rule scalars height, width
DSEC         the same, and `t_offset`, which is added to t; 640x480 pixels
Metavision   `CD/events` of rows (x, y, p, t), compressed by ECF, and an attribute `geometry`

Columns are stored plain or compressed; Blosc and other filters come with the package hdf5plugin.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from jaxdet import hdf5
from jaxdet.data.events import ecf
from jaxdet.data.events.streams import EventChunk, EventStream, signs
from jaxdet.errors import InputError

NAME = "HDF5 of RVT, eTraM, DSEC or Metavision"
MAGIC = b"\x89HDF\r\n\x1a\n"
_EXPECTED = "events (groups events/x, y, t, p or CD/events)"
_DSEC_SIZE = 640, 480


def matches(head: bytes, path: Path) -> bool:
    """True for any HDF5 file."""
    return head.startswith(MAGIC)


def open_stream(path: Path, chunk_events: int) -> EventStream:
    """Stream the events of an HDF5 file, its layout found by the names in it.

    Raises InputError, here or while iterating, for other layouts, missing filters and damaged data.
    """
    with hdf5.open_own(path, _EXPECTED) as file, _one_line(path):
        if isinstance(file.get("CD/events"), h5py.Dataset):
            _check_rows(path, file["CD/events"])
            return EventStream(path, "hdf5-ecf", *_geometry(file), _reader(path, _rows, chunk_events))
        columns = _columns(path, file)
        kinds = {name: columns[name].dtype.kind for name in "xytp"}
        lengths = {name: columns[name].shape for name in "xytp"}
        if len(set(lengths.values())) > 1 or len(lengths["t"]) != 1:
            raise InputError(f"{path}: columns of shapes {lengths}, expected four of one length")
        if set(kinds.values()) - set("iub"):
            raise InputError(f"{path}: columns of types {kinds}, expected whole numbers, t in microseconds")
        is_dsec = "t_offset" in file
        width, height = (_scalar(file, name) for name in ("width", "height"))
        if is_dsec and (width is None or height is None):
            width, height = _DSEC_SIZE
        kind = "dsec" if is_dsec else "h5"
        return EventStream(path, kind, width, height, _reader(path, _of_columns, chunk_events))


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Errors of the library, which a damaged file causes anywhere, become one line."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise InputError(f"{path}: cannot be read ({_advice(error)})") from error


def _reader(
    path: Path, read: Callable[[Path, Any, int], Iterator[EventChunk]], chunk_events: int
) -> Callable[[EventStream], Iterator[EventChunk]]:
    """Chunks of a stream, from `read(path, file, chunk_events)`; errors of the library become one line."""

    def chunks(_: EventStream) -> Iterator[EventChunk]:
        with hdf5.open_own(path, _EXPECTED) as file:
            _register_filters()
            with _one_line(path):
                yield from read(path, file, chunk_events)

    return chunks


def _register_filters() -> None:
    try:
        import hdf5plugin  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return


def _advice(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "filter" in text and "required" in text:
        return f"{text}; pip install hdf5plugin"
    return f"{text}; copy or download it again"


def _columns(path: Path, file: Any) -> dict[str, Any]:
    group = file.get("events")
    if isinstance(group, h5py.Group) and all(isinstance(group.get(name), h5py.Dataset) for name in "xytp"):
        return {name: group[name] for name in "xytp"}
    inside = list(group) if isinstance(group, h5py.Group) else list(file)
    raise InputError(f"{path}: HDF5 with {', '.join(sorted(inside)[:8]) or 'nothing'}, expected {_EXPECTED}")


def _scalar(file: Any, name: str) -> int | None:
    """A positive number stored beside the columns or at the root, as a dataset or an attribute."""
    for place in (file.get("events"), file):
        for values in (place, place.attrs):
            value = values.get(name)
            if value is not None and np.size(value) == 1:
                number = int(np.asarray(value[()] if isinstance(value, h5py.Dataset) else value).reshape(()))
                return number if number > 0 else None
    return None


def _of_columns(path: Path, file: Any, chunk_events: int) -> Iterator[EventChunk]:
    columns = _columns(path, file)
    offset = file["t_offset"][()] if "t_offset" in file else 0
    offset = int(np.asarray(offset).reshape(-1)[0])
    for start in range(0, len(columns["t"]), chunk_events):
        t, x, y, p = (columns[name][start : start + chunk_events] for name in "txyp")
        yield EventChunk(t.astype(np.int64) + offset, _pixel(x), _pixel(y), signs(p, f"{path}: p"))


def _pixel(values: np.ndarray) -> np.ndarray:
    """Columns or rows as int16; what it cannot hold becomes -1, which lies outside every sensor."""
    if values.dtype in (np.int16, np.uint8, np.int8):
        return values.astype(np.int16)
    return np.where((values >= 0) & (values <= 0x7FFF), values, -1).astype(np.int16)


def _geometry(file: Any) -> tuple[int | None, int | None]:
    text = file.attrs.get("geometry", "")
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (None, None)


def _check_rows(path: Path, rows: Any) -> None:
    if set(rows.dtype.names or ()) < set("xypt") or rows.ndim != 1:
        raise InputError(f"{path}: CD/events of {rows.dtype}, expected rows of x, y, p, t")


def _filters(rows: Any) -> list[int]:
    made = rows.id.get_create_plist()
    return [made.get_filter(index)[0] for index in range(made.get_nfilters())]


def _rows(path: Path, file: Any, chunk_events: int) -> Iterator[EventChunk]:
    rows = file["CD/events"]
    filters = _filters(rows)
    if ecf.FILTER not in filters:
        for start in range(0, len(rows), chunk_events):
            yield _of_rows(path, rows[start : start + chunk_events])
        return
    if filters != [ecf.FILTER]:
        raise InputError(f"{path}: CD/events with filters {filters}, expected ECF ({ecf.FILTER}) alone")
    for start in range(0, len(rows), rows.chunks[0]):
        skipped, data = rows.id.read_direct_chunk((start,))
        num = min(rows.chunks[0], len(rows) - start)
        events = _of_rows(path, np.frombuffer(data, rows.dtype)) if skipped else ecf.decode(data)
        if len(events.t_us) < num:
            raise InputError(
                f"{path}: {len(events.t_us)} events in the chunk of event {start}, expected {num}"
            )
        yield events.take(slice(0, num))


def _of_rows(path: Path, rows: np.ndarray) -> EventChunk:
    polarity = signs(rows["p"], f"{path}: p")
    return EventChunk(rows["t"].astype(np.int64), _pixel(rows["x"]), _pixel(rows["y"]), polarity)
