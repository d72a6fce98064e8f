"""HDF5 files of events as RVT and eTraM hand them out: a group `events` of columns x, y, p, t.

`height` and `width` are scalars of the group, absent in some files. Polarities are 0 and 1 or -1 and 1. Times
are not in order everywhere.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet import hdf5
from jaxdet.data.events.streams import EventChunk, EventStream
from jaxdet.errors import InputError

NAME = "HDF5 of RVT or eTraM"
MAGIC = b"\x89HDF\r\n\x1a\n"
_COLUMNS = ("t", "x", "y", "p")


def matches(head: bytes, path: Path) -> bool:
    """True for an HDF5 file with the columns and without the offset of times that DSEC's files have."""
    if not head.startswith(MAGIC):
        return False
    with hdf5.open_own(path, "events") as file:
        group = file.get("events")
        return hasattr(group, "keys") and set(_COLUMNS) <= set(group) and "t_offset" not in file


def open_stream(path: Path, chunk_events: int) -> EventStream:
    """Stream of the columns; InputError if they do not fit each other or need a codec that is not installed."""
    load_codecs()
    with hdf5.open_own(path, "events") as file:
        group = file["events"]
        lengths = {name: check_column(path, group[name], name) for name in _COLUMNS}
        if len(set(lengths.values())) > 1:
            raise InputError(
                f"{path}: columns of {lengths} events, expected equal lengths; download it again"
            )
        height, width = (_scalar(group.get(name)) for name in ("height", "width"))

    def chunks(stream: EventStream) -> Iterator[EventChunk]:
        with hdf5.open_own(path, "events") as file:
            columns = [file["events"][name] for name in _COLUMNS]
            for start in range(0, lengths["t"], chunk_events):
                rows = slice(start, start + chunk_events)
                t, x, y, p = (read_rows(path, column, rows) for column in columns)
                yield EventChunk(
                    t.astype(np.int64), x.astype(np.int16), y.astype(np.int16), (p > 0).astype(np.int8)
                )

    return EventStream(path, "rvt_h5", width, height, chunks)


def load_codecs() -> None:
    """Make the codecs of `hdf5plugin` (blosc, zstd, ...) known to HDF5."""
    import hdf5plugin  # noqa: F401   (registers them)


def check_column(path: Path, column: Any, name: str) -> int:
    """Length of a column; InputError if it is not one dimension of numbers."""
    if getattr(column, "ndim", 0) != 1 or column.dtype.kind not in "iufb":
        raise InputError(f"{path}: events/{name} is not a column of numbers; expected one value per event")
    return len(column)


def read_rows(path: Path, column: Any, rows: slice) -> np.ndarray:
    """Rows of a column; InputError if its bytes are damaged."""
    try:
        return column[rows]
    except (OSError, ValueError, MemoryError) as error:
        raise InputError(f"{path}: {column.name} is damaged ({error}); download it again") from error


def _scalar(value: Any) -> int | None:
    if value is None or getattr(value, "size", 0) != 1 or value.dtype.kind not in "iu":
        return None
    number = int(np.asarray(value).reshape(-1)[0])
    return number if 0 < number < 1 << 15 else None
