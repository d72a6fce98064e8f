"""Prophesee files: DAT event files and box files.

A DAT file has header lines that start with `% `, one byte event type (0x00 or 0x0C, the same layout), one
byte event size (8), then little-endian records of two uint32: time in microseconds, and x | y << 14 |
polarity << 28, in files of version 1 x | y << 9 | polarity << 17. A file without header lines has no type and
size bytes either.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from jaxdet.data.events.evt21 import unwrap
from jaxdet.data.events.streams import CUT, EventChunk, EventStream, Header, blocks, read_header
from jaxdet.errors import InputError
from jaxdet.files import atomic
from jaxdet.formats import arrays

NAME = "DAT"
CHUNK_EVENTS = 1 << 15  # small enough that a chunk and its columns stay in the cache
DAT_TYPES = (0x00, 0x0C)

BOX_DTYPE = np.dtype(
    [
        *((name, "<u8" if name == "t" else "<f4") for name in ("t", "x", "y", "w", "h")),
        ("class_id", "u1"),
        ("confidence", "<f4"),
        ("track_id", "<u4"),
    ]
)


def open_dat(path: str | os.PathLike) -> tuple[np.ndarray, Header]:
    """Records of a whole DAT file as a memory-mapped uint32 array [events, 2], and its header.

    Raises InputError when the file is empty, is not a DAT file, has another event type or size, or ends
    inside an event.
    """
    records, header, rest = _records(Path(path))
    if rest:
        raise InputError(
            f"{path}: ends {rest} bytes into event {len(records)}, expected whole events of 8 bytes; "
            "download or extract it again"
        )
    return records, header


def _records(path: Path) -> tuple[np.ndarray, Header, int]:
    """Whole records, header, and the number of bytes after the last whole record."""
    header = read_header(path)
    offset, size = header.offset, path.stat().st_size
    if offset:
        with open(path, "rb") as file:
            file.seek(offset)
            kind = file.read(2)
        if len(kind) < 2:
            raise InputError(
                f"{path}: ends after its header, expected event type and size; download it again"
            )
        if kind[0] not in DAT_TYPES or kind[1] != 8:
            raise InputError(
                f"{path}: event type {kind[0]:#04x} of {kind[1]} bytes, "
                "expected type 0x00 or 0x0c of 8 bytes; only DAT files with change detections can be read"
            )
        offset += 2
    num_events, rest = divmod(size - offset, 8)
    if not header.offset:
        _check_headerless(path, num_events, rest)
    if not num_events:
        return np.zeros((0, 2), "<u4"), header, rest
    return np.memmap(path, "<u4", "r", offset, (num_events, 2)).view(np.ndarray), header, rest


def _check_headerless(path, num_events, rest):
    sample = np.fromfile(path, "<u4", 2 * min(num_events, 4096))[1::2]
    plausible = len(sample) and not (sample >> 29).any()
    if not plausible or (rest and path.suffix != ".dat"):
        raise InputError(
            f"{path}: no header and no plausible events, expected a recording; see `jaxdet info --help` "
            "for the formats that are read"
        )


def is_version_1(header: Header) -> bool:
    """True for files whose columns have 9 bits and rows 8, as ATIS recorders of 2017 wrote them."""
    return header.fields.get("version", "").strip() == "1"


def decode_version_1(records: np.ndarray) -> EventChunk:
    """Decode uint32 records [events, 2] of a DAT file of version 1."""
    word = records[:, 1]
    return EventChunk(
        records[:, 0].astype(np.int64),
        word.astype(np.int16) & 0x1FF,
        (word >> 9).astype(np.int16) & 0xFF,
        (word >> 17).astype(np.int8) & 1,
    )


def decode(records: np.ndarray) -> EventChunk:
    """Decode uint32 records [events, 2] of a DAT file."""
    word = records[:, 1].copy()  # passes over neighbours in memory are twice as fast
    # Narrowed first, so that the masks run over two bytes and not four.
    return EventChunk(
        records[:, 0].astype(np.int64),
        word.astype(np.int16) & 0x3FFF,
        (word >> 14).astype(np.int16) & 0x3FFF,
        (word >> 28).astype(np.int8) & 1,
    )


def encode(events: EventChunk) -> np.ndarray:
    """Encode events as uint32 records [events, 2] of a DAT file; InputError for values beyond its range."""
    t, x, y, p = (np.asarray(column) for column in events)
    for name, values, limit in (("t", t, 1 << 32), ("x", x, 1 << 14), ("y", y, 1 << 14), ("p", p, 2)):
        if len(values) and (values.min() < 0 or values.max() >= limit):
            raise InputError(f"{name} from {values.min()} to {values.max()}, DAT holds 0 to {limit - 1}")
    records = np.empty((len(t), 2), "<u4")
    records[:, 0] = t
    records[:, 1] = x.astype(np.uint32) | y.astype(np.uint32) << 14 | p.astype(np.uint32) << 28
    return records


def write_dat(
    path: str | os.PathLike,
    chunks: EventChunk | Iterable[EventChunk],
    width: int | None = 304,
    height: int | None = 240,
    event_type: int = 0x0C,
    header: bool = True,
) -> None:
    """Write a DAT file, which appears whole or not at all; without `header` only its records."""
    lines = ["Data file containing Event2D events.", "Version 2"]
    if width and height:
        lines += [f"Height {height}", f"Width {width}"]
    with atomic(path) as temporary, open(temporary, "wb") as file:
        if header:
            file.write("".join(f"% {line}\n" for line in lines).encode() + bytes([event_type, 8]))
        for chunk in [chunks] if isinstance(chunks, EventChunk) else chunks:
            file.write(encode(chunk).tobytes())


def matches(head: bytes, path: Path) -> bool:
    """True: a file that no other reader knows is DAT or nothing, as it needs no header."""
    return True


def open_stream(path: Path, chunk_events: int) -> EventStream:
    """Stream of a DAT file, which may end inside an event; a clock that passes 2^32 us goes on."""
    records, header, rest = _records(path)
    decoded = decode_version_1 if is_version_1(header) else decode

    def chunks(stream: EventStream) -> Iterator[EventChunk]:
        stream.report.add(CUT, rest)
        last, wraps = None, 0
        begin = path.stat().st_size - rest - 8 * len(records)
        for block in blocks(path, records.dtype, begin, 2 * chunk_events, 2 * len(records)):
            chunk = decoded(block[: len(block) // 2 * 2].reshape(-1, 2))
            t_us = unwrap(chunk.t_us, 1 << 32, last, wraps)
            last, wraps = int(chunk.t_us[-1]), int(t_us[-1]) >> 32
            yield chunk._replace(t_us=t_us)

    return EventStream(path, "dat", header.width, header.height, chunks)


def read_boxes(path: str | os.PathLike) -> np.ndarray:
    """Boxes [M] of a `_bbox.npy` file as BOX_DTYPE (us, pixels, top-left corner) in the file's order.

    Fields are taken by name: `t` or `ts`, `confidence` or `class_confidence` (1 if absent), `track_id` (0 if
    absent). Raises InputError for a damaged file or one without the other fields.
    """
    raw = arrays.load(path, "boxes; download or extract it again")
    names = raw.dtype.names or ()
    alias = {"t": "ts", "confidence": "class_confidence"}
    boxes = np.zeros(raw.shape, BOX_DTYPE)
    boxes["confidence"] = 1
    for name in BOX_DTYPE.names or ():
        found = name if name in names else alias.get(name)
        if found in names:
            boxes[name] = _column(path, raw[found], name)
        elif name not in ("confidence", "track_id"):
            raise InputError(
                f"{path}: no field {name!r} among {', '.join(names) or 'no fields'}, expected boxes with "
                "t (or ts), x, y, w, h, class_id; take the file from the data set again"
            )
    return boxes.reshape(-1)


def _column(path: str | os.PathLike, values: np.ndarray, name: str) -> np.ndarray:
    """A column of boxes, of any type of numbers; InputError for text, and for a class that has no byte."""
    if values.dtype.kind not in "iufb":
        raise InputError(f"{path}: {name} of type {values.dtype}; expected numbers")
    if name == "t" and values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{path}: a time that is not a number; expected microseconds")
    try:
        return arrays.whole_numbers(values, name, 0, 256) if name == "class_id" else values
    except ValueError as error:
        raise InputError(f"{path}: {error}; expected classes 0 to 255") from error


def write_boxes(path: str | os.PathLike, boxes: np.ndarray) -> None:
    """Write BOX_DTYPE boxes as GEN1 has them: the time field is called `ts`."""
    source = np.dtype([("ts" if name == "t" else name, BOX_DTYPE[name]) for name in BOX_DTYPE.names or ()])
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.asarray(boxes, BOX_DTYPE).view(source))
