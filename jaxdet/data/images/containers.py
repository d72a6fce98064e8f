"""Video files by their structure: whether a file ends before its container says.

The number of frames in a header is a guess of whoever wrote it (the length of the sound, an edit list) and
condemns no file. The sizes of the parts of a container are exact.
"""

import os
from pathlib import Path
from typing import BinaryIO

_UNKNOWN_SIZE = 0x00FFFFFFFFFFFFFF  # of a Matroska segment that was written to a stream


def is_cut_short(path: str | os.PathLike) -> bool:
    """True if AVI, MP4 (MOV, M4V, 3GP) or Matroska (WebM) is shorter than its parts; False for others."""
    end = Path(path).stat().st_size
    with open(path, "rb") as file:
        head = file.read(16)
        if head[:4] == b"RIFF":
            return int.from_bytes(head[4:8], "little") + 8 > end
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _boxes_end(file, end) > end
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _segment_end(file) > end
    return False


def _boxes_end(file: BinaryIO, end: int) -> int:
    """Position after the last box of an MP4 file, by the sizes of its boxes."""
    at = 0
    while at + 8 <= end:
        file.seek(at)
        size = int.from_bytes(file.read(4), "big")
        file.read(4)
        if size == 1:
            size = int.from_bytes(file.read(8), "big")
        if size < 8:  # 0: to the end of the file
            return end
        at += size
    return at


def _segment_end(file: BinaryIO) -> int:
    """Position after the segment of a Matroska file; 0 if it was written without a size."""
    file.seek(4)
    header = _vint(file)
    file.seek(header, 1)
    file.read(4)  # id of the segment
    size = _vint(file)
    return 0 if size == _UNKNOWN_SIZE else file.tell() + size


def _vint(file: BinaryIO) -> int:
    """A number of Matroska: as many bytes as the first has leading zeros, and one."""
    first = file.read(1)
    if not first or not first[0]:
        return _UNKNOWN_SIZE
    extra = 8 - first[0].bit_length()
    value = first[0] & ((1 << (7 - extra)) - 1)
    data = file.read(extra)
    if extra == 0 and value == 0x7F:
        return _UNKNOWN_SIZE
    return value << (8 * extra) | int.from_bytes(data, "big")
