"""Damage inside containers whose checksums, directories and lengths stay right, so that readers get far."""

import contextlib
import io
import pickletools
import struct
import zipfile
import zlib

import event_writers
import h5py
import numpy as np
import py7zr
from mutations import of_bytes

NAMES = (
    "train/b_td.dat", "../x_td.dat", "/etc/x", "a\x1b[2J", "", ".", "..", "a/../b", "\\x", "é" * 120,
    "a" * 300, "train/.._td.dat", "train/_td.dat", "C:x", "a\nb", "train\\a_bbox.npy", "a:b", "con",
)  # fmt: skip


def in_place(data: bytes, rng: np.random.Generator, start: int = 0, stop: int | None = None) -> bytes:
    """Change a few bytes between `start` and `stop`; the length stays."""
    raw, stop = bytearray(data), len(data) if stop is None else stop
    for _ in range(rng.integers(1, 4)):
        if stop > start:
            at = int(rng.integers(start, stop))
            raw[at] = (
                raw[at] ^ (1 << int(rng.integers(0, 8))) if rng.random() < 0.5 else int(rng.integers(256))
            )
    return bytes(raw)


def of_payload(head: int):
    """Change bytes beyond the first `head` in most cases, anything in the others."""

    def damage(data: bytes, rng: np.random.Generator) -> bytes:
        return in_place(data, rng, head) if rng.random() < 0.6 else of_bytes(data, rng)

    return damage


def of_png(data: bytes, rng: np.random.Generator) -> bytes:
    """Change pixels, header fields, order and kinds of chunks, with the checksums that belong to them."""
    if rng.random() < 0.3:
        return of_bytes(data, rng)
    chunks, at = [], 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    kind, last = rng.integers(0, 6), len(chunks) - 1
    if kind < 3:  # one filter byte begins each row
        where = next(i for i, (name, _) in enumerate(chunks) if name == b"IDAT")
        chunks[where] = (b"IDAT", zlib.compress(in_place(zlib.decompress(chunks[where][1]), rng)))
    elif kind == 3:
        chunks[0] = (b"IHDR", in_place(chunks[0][1], rng))
    elif kind == 4:
        chunks.insert(int(rng.integers(0, last)), chunks[int(rng.integers(0, last + 1))])
    else:
        name = [b"tEXt", b"gAMA", b"eXIf", b"tRNS", b"PLTE", b"acTL", b"iCCP"][int(rng.integers(0, 7))]
        chunks.insert(int(rng.integers(1, last + 1)), (name, rng.bytes(int(rng.integers(0, 40)))))
    parts = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    return data[:8] + b"".join(parts)


def of_pickle(data: bytes, rng: np.random.Generator) -> bytes:
    """Change numbers and letters where they stand, or the argument of any opcode; the stream stays whole."""
    if rng.random() < 0.2:
        return of_bytes(data, rng)
    raw = bytearray(data)
    steps = [(op.name, at) for op, _, at in pickletools.genops(data)]
    floats = [at for name, at in steps if name == "BINFLOAT"]
    if floats and rng.random() < 0.6:
        value = float(rng.choice([0.25, 1.0, 30.0, 70.5, -1.0, float("nan"), 1e300]))
        at = floats[int(rng.integers(0, len(floats)))]
        raw[at + 1 : at + 9] = struct.pack(">d", value)
        return bytes(raw)
    held = [index for index, (name, _) in enumerate(steps) if name == "SHORT_BINBYTES"]
    if held and rng.random() < 0.6:
        index = held[int(rng.integers(0, len(held)))]
        return in_place(data, rng, steps[index][1] + 2, steps[index + 1][1])
    index = int(rng.integers(0, len(steps) - 1))
    at, stop = steps[index][1], steps[index + 1][1]
    if rng.random() < 0.7 and stop - at > 1:
        return in_place(data, rng, at + 1, stop)
    if rng.random() < 0.5:
        raw[at:at] = data[at:stop]
    else:
        del raw[at:stop]
    return bytes(raw)


def of_zip(data: bytes, rng: np.random.Generator) -> bytes:
    """Change, drop, repeat or rename a member of an archive of torch."""
    if rng.random() < 0.2:
        return of_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    index, kind = int(rng.integers(0, len(members))), rng.integers(0, 8)
    name, content = members[index]
    if kind == 0:
        del members[index]
    elif kind == 1:
        members[index] = (str(rng.choice(["other", "archive/data.pkl", "../x"])), content)
    elif kind == 2 and not name.endswith(".pkl"):
        members[index] = (name, of_bytes(content, rng))
    else:
        change = of_pickle if name.endswith(".pkl") else in_place
        members[index] = (name, change(content, rng))
    file = io.BytesIO()
    packed = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", packed) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, packed)
    return file.getvalue()


def of_7z(data: bytes, rng: np.random.Generator) -> bytes:
    """An archive of files with names that lead elsewhere, or damaged bytes."""
    if rng.random() < 0.5:
        return of_bytes(data, rng)
    file = io.BytesIO()
    with py7zr.SevenZipFile(file, "w") as archive:
        for _ in range(rng.integers(0, 4)):
            with contextlib.suppress(ValueError):  # the library writes no names that lead elsewhere
                archive.writef(io.BytesIO(rng.bytes(20)), str(rng.choice(NAMES)) or "x")
    made = file.getvalue()
    return made if rng.random() < 0.8 else of_payload(32)(made, rng)


def of_ecf(data: bytes, rng: np.random.Generator) -> bytes:
    """Change the bytes of a chunk of events, or of the file around it."""
    if rng.random() < 0.3:
        return of_bytes(data, rng)
    with h5py.File(io.BytesIO(data), "r") as file:
        events = file["CD/events"]
        num_events, num_chunk = len(events), events.chunks[0]
        chunk = events.id.read_direct_chunk((0,))[1]
    changed = in_place(chunk, rng, 4) if rng.random() < 0.8 else of_bytes(chunk, rng)
    made = io.BytesIO()
    event_writers.write_ecf(made, [changed], num_events, num_chunk)
    return made.getvalue()
