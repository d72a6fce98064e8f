"""AEDAT4 files of iniVation cameras (DAVIS, DVXplorer).

A file is a line that names the format, a table (IOHeader) with the compression and an XML text that lists the
streams, and packets: stream number, size, and a body that is a table of one kind of data. Tables are
FlatBuffers. Times are microseconds, as a rule since 1970. Packets of one stream of events are read, the
others are skipped or counted. A file of an interrupted recording may end inside a packet.
"""

import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from jaxdet.data.events.streams import EventChunk, EventStream
from jaxdet.errors import InputError
from jaxdet.structs import ReadReport

NAME = "AEDAT4"
MAGIC = b"#!AER-DAT4.0\r\n"
_ANY_VERSION = b"#!AER-DAT"
MAX_PACKET = 1 << 28  # bytes of one packet; cameras write some tens of kilobytes
_EVENT = np.dtype(
    {"names": list("txyp"), "formats": ["<i8", "<i2", "<i2", "u1"], "offsets": [0, 8, 10, 12], "itemsize": 16}
)
_CUT, _BROKEN = "packets cut short at the end of the file", "packets that cannot be read"
_OTHER = "packets of further event streams"


class _Header(NamedTuple):
    compression: int
    table_at: int  # first byte after the packets; not positive if the recording was interrupted
    first: int  # first byte of the packets
    streams: dict[int, tuple[int | None, int | None]]  # those of events: width, height
    frames: list[int]  # streams of frames


def matches(head: bytes, path: Path) -> bool:
    """True for AEDAT files of any version."""
    return head.startswith(_ANY_VERSION)


def open_stream(path: Path, chunk_events: int) -> EventStream:
    """Stream the events of the first event stream; InputError for a damaged header and other versions."""
    header = _read_header(path)
    if not header.streams:
        raise InputError(f"{path}: AEDAT4 without a stream of events (EVTS); record events as well")
    chosen, (width, height) = next(iter(header.streams.items()))
    expand = _decompressor(header.compression, path)

    def chunks(stream: EventStream) -> Iterator[EventChunk]:
        for events in _tables(path, header, chosen, expand, _events, stream.report):
            for start in range(0, len(events), chunk_events):
                part = events[start : start + chunk_events]
                yield EventChunk(part["t"], part["x"], part["y"], (part["p"] > 0).astype(np.int8))

    return EventStream(path, "aedat4", width, height, chunks)


def frame_times(path: Path) -> np.ndarray:
    """Times of the frames of the first stream of frames, int64 [F], us: the middle of each exposure.

    InputError for a file without a stream of frames, a damaged header or frame, and other versions.
    """
    header = _read_header(path)
    if not header.frames:
        raise InputError(f"{path}: AEDAT4 without a stream of frames (FRME), whose times were expected")
    expand = _decompressor(header.compression, path)
    report = ReadReport()
    times = np.array([*_tables(path, header, header.frames[0], expand, _frame_time, report)], np.int64)
    if report.counts[_BROKEN]:
        raise InputError(
            f"{path}: {report.counts[_BROKEN]} damaged frames, which cannot be numbered; copy it again"
        )
    return times


def _tables(
    path: Path,
    header: _Header,
    chosen: int,
    expand: Callable[[bytes], bytes],
    read: Callable[[bytes], Any],
    report: ReadReport,
) -> Iterator[Any]:
    """`read` of the body of every whole packet of the stream `chosen`."""
    with open(path, "rb") as file:
        for number, size in _packets(file, header, report):
            if number != chosen:
                if chosen in header.streams and number in header.streams:
                    report.add(_OTHER)
                continue
            try:
                yield read(expand(file.read(size)))
            except Exception as error:  # the libraries of compression raise errors of many kinds
                report.add(_BROKEN, 1, f"{type(error).__name__}: {error}")


def _packets(file: BinaryIO, header: _Header, report: ReadReport) -> Iterator[tuple[int, int]]:
    """Number of the stream and size of every whole packet, with the file at its body."""
    end = file.seek(0, 2)
    if header.first <= header.table_at < end:
        end = header.table_at
    at = header.first
    while at < end:
        file.seek(at)
        head = file.read(min(8, end - at))
        number, size = struct.unpack("<ii", head) if len(head) == 8 else (0, 0)
        if len(head) < 8 or not 0 <= size <= min(end - at - 8, MAX_PACKET):
            report.add(_CUT, 1, f"byte {at}")
            return
        yield number, size
        at += 8 + size


def _read_header(path: Path) -> _Header:
    try:
        return _parsed_header(path)
    except InputError:
        raise
    except (struct.error, IndexError, ValueError, ElementTree.ParseError) as error:
        raise InputError(f"{path}: damaged header ({error}), expected AEDAT4; copy it again") from error


def _parsed_header(path: Path) -> _Header:
    with open(path, "rb") as file:
        magic = file.read(len(MAGIC))
        if magic != MAGIC:
            version = magic[len(_ANY_VERSION) :].strip().decode(errors="replace")
            raise InputError(
                f"{path}: AEDAT {version}, expected AEDAT 4.0; convert it with DV or dv-processing"
            )
        (size,) = struct.unpack("<I", file.read(4))
        if size > MAX_PACKET:
            raise ValueError(f"of {size} bytes")
        data = file.read(size)
        first = file.tell()
    if len(data) < size:
        raise ValueError("cut short")
    root = struct.unpack_from("<I", data)[0]
    compression, table, info = (_field(data, root, index) for index in range(3))
    text = b""
    if info:
        start = info + struct.unpack_from("<I", data, info)[0]
        text = data[start + 4 : start + 4 + struct.unpack_from("<I", data, start)[0]]
    return _Header(
        struct.unpack_from("<i", data, compression)[0] if compression else 0,
        struct.unpack_from("<q", data, table)[0] if table else -1,
        first,
        _streams(text, "EVTS"),
        [*_streams(text, "FRME")],
    )


def _field(data: bytes, table: int, index: int) -> int:
    """Position of a field of a FlatBuffers table, 0 where it is not stored."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0 or 4 + 2 * index >= struct.unpack_from("<H", data, vtable)[0]:
        return 0
    offset = struct.unpack_from("<H", data, vtable + 4 + 2 * index)[0]
    return table + offset if offset else 0


def _streams(text: bytes, kind: str) -> dict[int, tuple[int | None, int | None]]:
    """Number, width and height of the streams of a kind in the XML text."""
    if b"<!" in text:  # no writer declares entities, which can be nested without bound
        raise ValueError("with declarations in its XML")
    found = {}
    for node in ElementTree.fromstring(text.rstrip(b"\0")).iter("node"):
        own = {item.get("key"): item.text or "" for item in node.findall("attr")}
        if own.get("typeIdentifier") != kind or not node.get("name", "").isdecimal():
            continue
        info = {item.get("key"): item.text or "" for item in node.findall("node[@name='info']/attr")}
        size = [int(info[key]) if info.get(key, "").isdecimal() else None for key in ("sizeX", "sizeY")]
        found[int(node.get("name", ""))] = tuple(size)
    return found


def _events(data: bytes) -> np.ndarray:
    """Events of a size-prefixed table whose first field is a vector of them."""
    root = 4 + struct.unpack_from("<I", data, 4)[0]
    field = _field(data, root, 0)
    if not field:
        return np.zeros(0, _EVENT)
    start = field + struct.unpack_from("<I", data, field)[0]
    return np.frombuffer(data, _EVENT, struct.unpack_from("<I", data, start)[0], start + 4)


def _frame_time(data: bytes) -> int:
    """First field of a size-prefixed table; ValueError if it is not stored."""
    field = _field(data, 4 + struct.unpack_from("<I", data, 4)[0], 0)
    if not field:
        raise ValueError("a frame without a time")
    return struct.unpack_from("<q", data, field)[0]


def _decompressor(compression: int, path: Path) -> Callable[[bytes], bytes]:
    """The function that expands a packet; InputError if its library is missing or its number unknown."""
    if compression == 0:
        return bytes
    if compression not in (1, 2, 3, 4):
        raise InputError(f"{path}: AEDAT4 of compression {compression}, expected none, LZ4 or zstd")
    try:
        new, name = (_lz4, "lz4") if compression < 3 else (_zstd, "backports.zstd")
        new_reader = new()
    except ImportError as error:
        raise InputError(f"{path}: AEDAT4 compressed by {name}; pip install {name}") from error

    def expand(body: bytes) -> bytes:
        reader = new_reader()
        data = reader.decompress(body, MAX_PACKET)
        if not reader.eof:
            raise ValueError("longer than any packet, or cut short")
        return data

    return expand


def _lz4() -> Callable[[], Any]:
    import lz4.frame

    return lz4.frame.LZ4FrameDecompressor


def _zstd() -> Callable[[], Any]:
    try:
        from compression import zstd  # pyright: ignore[reportMissingImports]   (Python 3.14)
    except ImportError:
        from backports import zstd

    return zstd.ZstdDecompressor
