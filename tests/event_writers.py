"""Writers of event files that only readers need: ECF in HDF5, and AEDAT4."""

import struct

import h5py
import numpy as np

from jaxdet.data.events import ecf


def runs(values):
    """Pairs (value, number) of the runs of equal values."""
    values = [int(value) for value in values]
    starts = [i for i in range(len(values)) if i == 0 or values[i] != values[i - 1]]
    return [(values[a], b - a) for a, b in zip(starts, [*starts[1:], len(values)], strict=True)]


def ecf_times(t_us):
    data, now = struct.pack("<Q", int(t_us[0])), int(t_us[0])
    for time, count in runs(t_us):
        step = max(time - now, 0)
        if step >= 15:
            while step:
                data += bytes([0xF0 | step & 15])
                step >>= 4
        now = max(time, now)
        data += bytes([step << 4 | count]) if count < 15 else struct.pack("<BH", step << 4 | 15, count)
    return data


def ecf_runs(values, bits, word):
    full, data = (1 << bits) - 1, b""
    for value, count in runs(values):
        data += struct.pack("<" + word, value << bits | min(count, full))
        data += struct.pack("<H", count) if count >= full else b""
    return data


def ecf_masked(x):
    data, at = b"", 0
    while at < len(x):
        first, mask = int(x[at]), 0
        at += 1
        for j in range(5):
            if at < len(x) and x[at] == first + j + 1:
                mask |= 1 << (4 - j)
                at += 1
        data += struct.pack("<H", first << 5 | mask)
    return data


def ecf_packed(values, bits):
    """Four values of `bits` in three words; the last group is filled up."""
    values = [*map(int, values), *[0] * (-len(values) % 4)]
    size, data = bits // 6, b""  # of a word: 2 or 4 bytes
    quarter = bits // 3
    for a, b, c, d in zip(*[iter(values)] * 4, strict=True):
        words = (
            a << quarter | b & (1 << quarter) - 1,
            b >> quarter << 2 * quarter | c & (1 << 2 * quarter) - 1,
            c >> 2 * quarter << 3 * quarter | d,
        )
        data += b"".join(word.to_bytes(size, "little") for word in words)
    return data


def ecf_chunk(events, kind):
    """Bytes of a chunk; `kind` is "yxp" or "xp" (packed), or "masked"."""
    t, x, y, p = (np.asarray(column, np.int64) for column in events)
    flags = {"yxp": 2, "xp": 1, "masked": 0}[kind]
    data = struct.pack("<I", len(t) << 2 | flags) + ecf_times(t)
    if kind == "yxp":
        return data + ecf_packed(y << 12 | x << 1 | p, 24)
    data += ecf_runs(y, 5, "H")
    return data + (ecf_packed(x << 1 | p, 12) if kind == "xp" else ecf_masked(x) + ecf_runs(p, 7, "B"))


def write_ecf(path, chunks, num_events, chunk_events, geometry="1280x720"):
    """HDF5 as Metavision writes it: `chunks` are the bytes of its chunks."""
    row = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((chunk_events,))
    made.set_filter(ecf.FILTER, h5py.h5z.FLAG_OPTIONAL, ())
    with h5py.File(path, "w") as file:
        file.attrs["geometry"] = geometry
        group = file.create_group("CD")
        space = h5py.h5s.create_simple((num_events,))
        rows = h5py.h5d.create(group.id, b"events", h5py.h5t.py_create(row), space, made)
        for index, chunk in enumerate(chunks):
            rows.write_direct_chunk((index * chunk_events,), chunk)


def aedat4_header(streams, compression=0, table_at=-1):
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


def aedat4_events(events):
    """Body of a packet of events, not compressed."""
    rows = b"".join(struct.pack("<qhhBxxx", *map(int, event)) for event in zip(*events, strict=True))
    # Root, identifier, vtable (size, size of the table, one offset), padding, table, vector.
    head = struct.pack("<I4sHHHxxiII", 16, b"EVTS", 6, 8, 4, 8, 4, len(events[0]))
    return struct.pack("<I", len(head) + len(rows)) + head + rows


def aedat4_packet(number, body):
    return struct.pack("<ii", number, len(body)) + body
