"""Writers of event files that only tests of readers need: EVT2, and ECF in HDF5."""

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


def write_evt2(path, events, width, height):
    """Write an EVT2 RAW file; times are non-decreasing and below 2^34 us."""
    t = events.t_us
    high = t >> 6
    words = np.empty((len(t), 2), "<u4")
    words[:, 0] = 0x8 << 28 | high
    words[:, 1] = (
        events.p.astype(np.int64) << 28
        | (t & 0x3F) << 22
        | events.x.astype(np.int64) << 11
        | events.y.astype(np.int64)
    )
    wanted = np.ones(words.shape, bool)
    wanted[1:, 0] = np.diff(high) != 0
    text = f"% evt 2.0\n% format EVT2;height={height};width={width}\n% geometry {width}x{height}\n% end\n"
    path.write_bytes(text.encode() + words[wanted].tobytes())
