"""Event Compression Format (ECF): one chunk of the events of a Prophesee HDF5 file.

A chunk is a 32-bit header (number of events, two flags of the layout), a 64-bit start, run lengths of the
times, and then either packed groups of four events or run lengths of rows, columns and polarities. The parts
follow each other without padding. Everything is a run length, so a chunk is decoded by `np.repeat` and
cumulative sums. Source: the codec's own description, prophesee-ai/hdf5_ecf.
"""

from collections.abc import Callable

import numpy as np

from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError

FILTER = 0x8ECF  # number of the filter in HDF5
MAX_EVENTS = 65535  # of a chunk
_XP_PACKED, _YXP_PACKED = 1, 2  # flags of the header
_FEW = 2048  # bytes that hold most times or polarities of a chunk
_OFFSETS = np.arange(6, dtype=np.uint16)  # columns that a word of masked columns reaches
_MASKS = (np.arange(32)[:, None] + 32 >> (5 - np.arange(6)) & 1) > 0  # bool [mask, column]


def decode(data: bytes) -> EventChunk:
    """Events of one compressed chunk; InputError for one that ends early or counts beyond its events."""
    if len(data) < 4:
        raise InputError("a chunk of ECF shorter than its header")
    header = int.from_bytes(data[:4], "little")
    num = header >> 2
    if num > MAX_EVENTS:
        raise InputError(f"a chunk of ECF of {num} events, which holds at most {MAX_EVENTS}")
    if not num:
        return EventChunk.none()
    t_us, at = _of_window(_times, data, 4, num, _FEW)
    if header & _YXP_PACKED:
        value, _ = _packed(data, at, num, "<u4")
        y, x, p = value >> 12 & 0x7FF, value >> 1 & 0x7FF, value & 1
    else:
        y, at = _of_window(_rows, data, at, num, 2 * num)
        if header & _XP_PACKED:
            value, _ = _packed(data, at, num, "<u2")
            x, p = value >> 1, value & 1
        else:
            x, at = _masked(data, at, num)
            p, _ = _of_window(_polarities, data, at, num, _FEW)
    return EventChunk(t_us, x.astype(np.int16), y.astype(np.int16), p.astype(np.int8))


def _of_window(
    read: Callable[[bytes, int, int], tuple[np.ndarray, int]], data: bytes, at: int, num: int, size: int
) -> tuple[np.ndarray, int]:
    """Values [num] of a part at byte `at`, looked for in `size` bytes first, and the byte after them.

    The length of a part is known only once it is read, and most are much shorter than the rest of the chunk.
    """
    while at + size < len(data):
        try:
            return read(data[: at + size], at, num)
        except InputError:
            size *= 4
    return read(data, at, num)


def _operations(escapes: np.ndarray, extra: int) -> np.ndarray:
    """Positions of the words that are not the `extra` count words after an escape."""
    own, end = np.ones(len(escapes), bool), 0
    for at in np.flatnonzero(escapes):  # few: an escape stands for many events
        if at >= end:
            end = at + 1 + extra
            own[at + 1 : end] = False
    return np.flatnonzero(own)


def _until(counts: np.ndarray, num: int) -> tuple[int, np.ndarray]:
    """Number of runs that hold the first `num` events, and their counts with the last one cut there."""
    reached = np.cumsum(counts)
    last = int(np.searchsorted(reached, num))
    if last == len(counts):
        raise InputError(f"a chunk of ECF ends before its {num} events")
    counts = counts[: last + 1].copy()
    counts[-1] -= reached[last] - num
    return last + 1, counts


def _times(data: bytes, at: int, num: int) -> tuple[np.ndarray, int]:
    """Times int64 [num] and the first byte after them.

    A byte's upper half is a step of time, its lower half the number of events; 15 in the lower half says that
    16 bits with the number follow, 15 in the upper half that the lower one is a digit of a longer step.
    """
    start = np.frombuffer(data[at : at + 8].ljust(8, b"\0"), "<i8")[0]
    codes = np.frombuffer(data, np.uint8, offset=min(at + 8, len(data)))
    step, low = (codes >> 4).astype(np.int64), (codes & 15).astype(np.int64)
    escapes = (low == 15) & (step != 15)
    ops = _operations(escapes, 2)
    wide = np.append(codes, (0, 0)).astype(np.int64)
    counts = np.where(escapes, wide[1:-1] | wide[2:] << 8, low)[ops]
    step, low, is_digit = step[ops], low[ops], step[ops] == 15
    used, kept = _until(np.where(is_digit, 0, counts), num)
    step, low, is_digit = step[:used], low[:used], is_digit[:used]
    index = np.arange(used)
    place = index - np.maximum.accumulate(np.where(is_digit, -1, index)) - 1
    if place[is_digit].max(initial=0) > 15:
        raise InputError("a step of time of more than 64 bits in a chunk of ECF")
    # The digits are added one by one: no event lies between them.
    t_us = start + np.cumsum(np.where(is_digit, low << 4 * np.where(is_digit, place, 0), step))
    last = int(ops[used - 1])
    return np.repeat(t_us, kept), at + 9 + last + 2 * bool(escapes[last])


def _rows(data: bytes, at: int, num: int) -> tuple[np.ndarray, int]:
    return _runs(data, at, num, "<u2", 5)


def _polarities(data: bytes, at: int, num: int) -> tuple[np.ndarray, int]:
    return _runs(data, at, num, "u1", 7)


def _runs(data: bytes, at: int, num: int, word: str, bits: int) -> tuple[np.ndarray, int]:
    """Values [num] of run lengths, and the first byte after them.

    The lower `bits` of a word count, the upper ones are the value; all ones say that 16 bits with the number
    follow.
    """
    words = _words(data, at, word)
    size = words.itemsize
    full = (1 << bits) - 1
    escapes = (words & full) == full
    ops = _operations(escapes, 2 // size)
    wide = np.append(words, np.zeros(2, words.dtype)).astype(np.int64)
    follows = wide[1:-1] if size == 2 else wide[1:-1] | wide[2:] << 8
    used, kept = _until(np.where(escapes, follows, words & full)[ops].astype(np.int64), num)
    last = int(ops[used - 1])
    end = at + size * (last + 1) + 2 * bool(escapes[last])
    return np.repeat(words[ops[:used]] >> bits, kept), end


def _masked(data: bytes, at: int, num: int) -> tuple[np.ndarray, int]:
    """Columns [num] of words of one column and a mask of the five after it, and the byte after them."""
    words = _words(data, at, "<u2")[:num]
    set_bits = _MASKS[words & 31]
    used, _ = _until(set_bits.sum(1), num)
    columns = (words[:used, None] >> 5) + _OFFSETS
    return columns[set_bits[:used]][:num], at + 2 * used


def _packed(data: bytes, at: int, num: int, word: str) -> tuple[np.ndarray, int]:
    """Values [num] of three quarters of a word each, four of them in three words; the last group is whole."""
    groups = -(-num // 4)
    words = _words(data, at, word)[: 3 * groups]
    if len(words) < 3 * groups:
        raise InputError(f"a chunk of ECF ends before its {num} events")
    part = 2 * words.itemsize  # bits of a quarter of a word
    a, b, c = words.reshape(-1, 3).T
    low, half, high = (1 << part) - 1, (1 << 2 * part) - 1, (1 << 3 * part) - 1
    parts = (
        a >> part,
        a & low | b >> 2 * part << part,
        b & half | c >> 3 * part << 2 * part,
        c & high,
    )
    return np.stack(parts, 1).reshape(-1)[:num], at + groups * 3 * words.itemsize


def _words(data: bytes, at: int, word: str) -> np.ndarray:
    """Whole words from byte `at` on, whatever its alignment."""
    size = np.dtype(word).itemsize
    return np.frombuffer(data, word, max(len(data) - at, 0) // size, min(at, len(data)))
