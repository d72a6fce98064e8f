"""AEDAT4 files of simulated cameras, not compressed: a stream of events, and frames of which only the time is
stored. `events.aedat4` describes the format."""

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxdet.data.events.streams import EventChunk
from jaxdet.files import atomic

_PACKET_EVENTS = 4096


def header(streams: Iterable[tuple[int, str, int, int]], compression: int = 0, table_at: int = -1) -> bytes:
    """Magic line and IOHeader; `streams` are rows (number, kind, width, height)."""
    nodes = "".join(
        f'<node name="{number}" path="/{number}/"><attr key="typeIdentifier" type="string">{kind}</attr>'
        f'<node name="info" path="/{number}/info/"><attr key="sizeX" type="int">{width}</attr>'
        f'<attr key="sizeY" type="int">{height}</attr></node></node>'
        for number, kind, width, height in streams
    )
    text = f'<dv version="2.0"><node name="outInfo" path="/outInfo/">{nodes}</node></dv>'.encode()
    # Root, identifier, vtable (size, size of the table, three offsets), table, string.
    table = struct.pack("<I4sHHHHHxxiiIq", 20, b"IOHE", 10, 20, 4, 12, 8, 12, compression, 12, table_at)
    data = table + struct.pack("<I", len(text)) + text + b"\0"
    return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(data)) + data


def event_body(events: EventChunk) -> bytes:
    """Body of a packet of events."""
    kinds = {"t": "<i8", "x": "<i2", "y": "<i2", "p": "u1", "rest": "V3"}
    rows = np.zeros(len(events.t_us), list(kinds.items()))
    for name, column in zip("txyp", events, strict=True):
        rows[name] = column
    # Root, identifier, vtable (size, size of the table, one offset), padding, table, vector.
    head = struct.pack("<I4sHHHxxiII", 16, b"EVTS", 6, 8, 4, 8, 4, len(rows))
    return _sized(head + rows.tobytes())


def frame_body(t_us: int) -> bytes:
    """Body of a packet of a frame without pixels."""
    return _sized(struct.pack("<I4sHHHxxiq", 16, b"FRME", 6, 12, 4, 8, t_us))


def packet(number: int, body: bytes) -> bytes:
    """A packet of the stream `number`."""
    return struct.pack("<ii", number, len(body)) + body


def write(path: Path, events: EventChunk, frames_us: Sequence[int], width: int, height: int) -> None:
    """Write events and frames, each packet of events up to the next frame."""
    sizes = (width, height)
    cuts = np.searchsorted(events.t_us, np.asarray(frames_us, np.int64))
    with atomic(path) as temporary, open(temporary, "wb") as file:
        file.write(header([(0, "EVTS", *sizes), (1, "FRME", *sizes)]))
        first = 0
        for last, t_us in zip([*cuts.tolist(), len(events.t_us)], [*frames_us, None], strict=True):
            for start in range(first, last, _PACKET_EVENTS):
                part = slice(start, min(start + _PACKET_EVENTS, last))
                file.write(packet(0, event_body(events.take(part))))
            if t_us is not None:
                file.write(packet(1, frame_body(int(t_us))))
            first = last


def _sized(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data
