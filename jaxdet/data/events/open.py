"""One way to open a recording: the format is found by the content of the file.

Each format has a module with `NAME`, `matches(head, path)`, where `head` are the first bytes, and
`open_stream(path, chunk_events)`, which gives an `EventStream`.
"""

import os
from pathlib import Path

from jaxdet.data.events import aedat4, dat, evt, h5, tables
from jaxdet.data.events.streams import EventStream
from jaxdet.errors import InputError

# In this order; DAT is last, since a DAT file needs no header.
SOURCES = (evt, h5, aedat4, tables, dat)
_HEAD = 4096
_FOREIGN = (
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"7z\xbc\xaf\x27\x1c", "an archive; extract it first"),
    (b"SQLite", "a ROS 2 bag"),
    (b"#ROSBAG", "a ROS bag"),
)


def open_events(
    path: str | os.PathLike,
    chunk_events: int = dat.CHUNK_EVENTS,
    sensor: tuple[int, int] | None = None,
) -> EventStream:
    """Stream the events of a file in bounded memory; `sensor` (height, width) overrules its header.

    Raises InputError, here or while iterating, for a file that is not a recording or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a recording")
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise InputError(f"{path}: the file is empty, expected events; download or extract it again")
    source = next((source for source in SOURCES[:-1] if source.matches(head, path)), None)
    if source is None:
        for magic, kind in _FOREIGN:
            if head.startswith(magic):
                names = ", ".join(source.NAME for source in SOURCES)
                raise InputError(f"{path}: {kind}; expected events as {names}")
        source = dat
    stream = source.open_stream(path, chunk_events)
    if sensor is not None:
        stream.height, stream.width = sensor
    return stream
