"""Prophesee files: DAT event files, box files, and one stream of events for DAT, EVT2 and EVT3.

A DAT file has header lines that start with `% `, one byte event type (0x00 or 0x0C, the same layout), one
byte event size (8), then little-endian records of two uint32: time in microseconds, and x | y << 14 |
polarity << 28. A file without header lines has no type and size bytes either.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from jaxdet.data.events import evt
from jaxdet.data.events.streams import EventChunk, EventStream, Header, read_header
from jaxdet.errors import InputError
from jaxdet.files import atomic

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
    """Records of a DAT file as a memory-mapped uint32 array [events, 2], and its header.

    Raises InputError when the file is empty, is not a DAT file, has another event type or size, or ends
    inside an event.
    """
    path = Path(path)
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
    if rest:
        raise InputError(
            f"{path}: ends {rest} bytes into event {num_events}, expected whole events of 8 bytes; "
            "download or extract it again"
        )
    if not num_events:
        return np.zeros((0, 2), "<u4"), header
    return np.memmap(path, "<u4", "r", offset, (num_events, 2)).view(np.ndarray), header


def _check_headerless(path, num_events, rest):
    sample = np.fromfile(path, "<u4", 2 * min(num_events, 4096))[1::2]
    plausible = len(sample) and not (sample >> 29).any()
    if not plausible or (rest and path.suffix != ".dat"):
        raise InputError(
            f"{path}: no header and no plausible events, expected a DAT, EVT2 or EVT3 file; check the path"
        )


def decode(records: np.ndarray) -> EventChunk:
    """Decode uint32 records [events, 2] of a DAT file."""
    word = records[:, 1]
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


def open_events(path: str | os.PathLike, chunk_events: int = CHUNK_EVENTS) -> EventStream:
    """Stream the events of a DAT, EVT2 or EVT3 file, told apart by the header, in bounded memory.

    Raises InputError, here or while iterating, for a file of another kind or one that ends inside an event.
    """
    path = Path(path)
    header = read_header(path)
    if kind := evt.kind(header, path):
        new_decoder = evt.DECODERS[kind]
        words = evt.open_words(path, header, new_decoder.word)
    else:
        kind, new_decoder = "dat", lambda: lambda records: (decode(records), 0)
        words, _ = open_dat(path)

    def chunks(stream: EventStream) -> Iterator[EventChunk]:
        decoder = new_decoder()
        for start in range(0, len(words), chunk_events):
            chunk, num_dropped = decoder(words[start : start + chunk_events])
            stream.num_dropped += num_dropped
            yield chunk

    return EventStream(path, kind, header.width, header.height, chunks)


def read_boxes(path: str | os.PathLike) -> np.ndarray:
    """Boxes [M] of a `_bbox.npy` file as BOX_DTYPE (us, pixels, top-left corner) in the file's order.

    Fields are taken by name: `t` or `ts`, `confidence` or `class_confidence` (1 if absent), `track_id` (0 if
    absent). Raises InputError for a damaged file or one without the other fields.
    """
    try:
        with open(path, "rb") as file:
            raw = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not a whole .npy file ({error}); download or extract it again") from error
    names = raw.dtype.names or ()
    alias = {"t": "ts", "confidence": "class_confidence"}
    boxes = np.zeros(raw.shape, BOX_DTYPE)
    boxes["confidence"] = 1
    for name in BOX_DTYPE.names or ():
        found = name if name in names else alias.get(name)
        if found in names:
            boxes[name] = raw[found]
        elif name not in ("confidence", "track_id"):
            raise InputError(
                f"{path}: no field {name!r} among {', '.join(names) or 'no fields'}, expected boxes with "
                "t (or ts), x, y, w, h, class_id; take the file from the data set again"
            )
    return boxes.reshape(-1)


def write_boxes(path: str | os.PathLike, boxes: np.ndarray) -> None:
    """Write BOX_DTYPE boxes as GEN1 has them: the time field is called `ts`."""
    source = np.dtype([("ts" if name == "t" else name, BOX_DTYPE[name]) for name in BOX_DTYPE.names or ()])
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.asarray(boxes, BOX_DTYPE).view(source))
