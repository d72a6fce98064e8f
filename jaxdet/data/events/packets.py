"""Events of a live camera: packets of arrays over TCP, UDP or a pipe, and EVT3 words over a pipe.

A packet is a header of 16 bytes and four arrays, all little-endian:

    4 bytes   "JDE1"
    uint16    width of the camera in pixels, 0 if unknown
    uint16    height
    uint32    number N of events; a packet of none ends a stream over UDP
    uint32    0
    int64 [N] times in microseconds        uint16 [N] columns
    uint16 [N] rows                        int8 [N]   polarities, 0 and 1 or -1 and 1

Over TCP and a pipe packets follow each other; over UDP each is a datagram.
"""

import re
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from jaxdet.data.events.evt import DECODERS
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError

MAGIC = b"JDE1"
_HEADER = struct.Struct("<4sHHII")
_DTYPES = (np.dtype("<i8"), np.dtype("<u2"), np.dtype("<u2"), np.dtype("i1"))
_BYTES_AN_EVENT = sum(dtype.itemsize for dtype in _DTYPES)
MAX_EVENTS = 1 << 24  # of a packet, so that a foreign sender cannot ask for all memory
_WORDS_AT_ONCE = 1 << 14


class Packet(NamedTuple):
    """Events that arrived together, in any order; polarities are as they were sent."""

    events: EventChunk
    camera: tuple[int, int] | None  # height, width; None if unknown
    num_untimed: int = 0  # events before the first time of their source, which are left out


def encode(events: Any, camera: tuple[int, int] | None = None) -> bytes:
    """Bytes of a packet from columns (t_us, x, y, polarity)."""
    columns = [np.asarray(column) for column in events]
    height, width = camera or (0, 0)
    parts = [column.astype(dtype).tobytes() for column, dtype in zip(columns, _DTYPES, strict=True)]
    return b"".join([_HEADER.pack(MAGIC, width, height, len(columns[0]), 0), *parts])


def decode(data: bytes) -> Packet:
    """Packet of whole bytes; InputError if they are not one."""
    _, width, height, count, _ = _header(data[: _HEADER.size])
    if len(data) != _HEADER.size + count * _BYTES_AN_EVENT:
        raise InputError(
            f"a packet of {len(data)} bytes, expected {_HEADER.size + count * _BYTES_AN_EVENT} "
            f"for {count} events; send whole packets"
        )
    columns, offset = [], _HEADER.size
    for dtype in _DTYPES:
        columns.append(np.frombuffer(data, dtype, count, offset))
        offset += count * dtype.itemsize
    t_us, x, y, polarity = columns
    events = EventChunk(t_us.astype(np.int64), x.astype(np.int32), y.astype(np.int32), polarity)
    return Packet(events, (height, width) if height and width else None)


def is_address(text: str) -> bool:
    """True for an input that is a live source and not a path."""
    return text == "-" or text.startswith(("tcp://", "udp://"))


def receive(address: str) -> Iterator[Packet]:
    """Packets of `tcp://HOST:PORT`, to which it connects, `udp://HOST:PORT`, to which it listens, or "-".

    Standard input holds packets, or EVT3 words with or without the text header of a RAW file. Raises
    InputError for another address, and for bytes that are not packets.
    """
    if address == "-":
        yield from _piped(sys.stdin.buffer)
        return
    parts = urlsplit(address)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise InputError(f"{address}: expected tcp://HOST:PORT, udp://HOST:PORT or -")
    if parts.scheme == "tcp":
        with socket.create_connection((host, port)) as connection, connection.makefile("rb") as file:
            yield from _packets(file.read)
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            listener.bind((host, port))
            while len((packet := decode(listener.recv(1 << 16))).events.t_us):
                yield packet


def _header(data: bytes) -> tuple[bytes, int, int, int, int]:
    if len(data) != _HEADER.size or data[:4] != MAGIC:
        raise InputError(
            f"{len(data)} bytes that begin with {data[:4]!r}, expected a packet, which begins with {MAGIC!r}"
        )
    fields = _HEADER.unpack(data)
    if fields[3] > MAX_EVENTS:
        raise InputError(f"a packet of {fields[3]} events, expected at most {MAX_EVENTS}; send smaller ones")
    return fields


def _packets(read: Callable[[int], bytes], begun: bytes = b"") -> Iterator[Packet]:
    """Packets from `read(count)`, which gives fewer bytes only at the end; `begun` was read before."""
    while header := begun + read(_HEADER.size - len(begun)):
        begun = b""
        size = _header(header)[3] * _BYTES_AN_EVENT
        yield decode(header + read(size))


def _stated_size(line: bytes) -> tuple[int, int] | None:
    """Height and width that a header line states."""
    if match := re.match(rb"% geometry (\d+)x(\d+)\s", line):
        return int(match[2]), int(match[1])
    settings = dict(re.findall(rb"(height|width)=(\d+)", line)) if line.startswith(b"% format ") else {}
    return (int(settings[b"height"]), int(settings[b"width"])) if len(settings) == 2 else None


def _piped(file: BinaryIO) -> Iterator[Packet]:
    begun = file.read(4)
    if begun == MAGIC:
        yield from _packets(file.read, begun)
        return
    camera = None
    while begun.startswith(b"% "):
        line = begun + file.readline(4096)
        camera = _stated_size(line) or camera
        if line.startswith(b"% end"):
            begun = b""
            break
        begun = file.read(2)
    decoder = DECODERS["evt3"]()
    # What a pipe holds now is decoded now: `read1` does not wait for a whole block.
    read: Callable[[int], bytes] = getattr(file, "read1", file.read)
    while data := read(2 * _WORDS_AT_ONCE):
        data = begun + data
        whole = len(data) // 2 * 2
        events, num_untimed = decoder(np.frombuffer(data[:whole], "<u2"))
        begun = data[whole:]
        yield Packet(events, camera, num_untimed)
