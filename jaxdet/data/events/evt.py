"""Prophesee RAW files: EVT2 (32-bit words), EVT2.1 (64-bit) and EVT3 (16-bit), without a loop over events.

A decoder is called with consecutive blocks of words. Its state between two blocks is put in front of the next
block as words of the same format, so that the same vectorised code handles both cases.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from jaxdet.data.events import evt21
from jaxdet.data.events.evt21 import unwrap
from jaxdet.data.events.streams import CUT, UNTIMED, EventChunk, EventStream, Header, read_header
from jaxdet.errors import InputError
from jaxdet.files import atomic

NAME = "EVT2, EVT2.1, EVT3"


def kind(header: Header, path: Path) -> str | None:
    """`evt2`, `evt21`, `evt3`, or None when the header does not announce RAW events."""
    version = header.fields.get("evt") or header.fields.get("format", "").upper().removeprefix("EVT")
    version = version.split(";")[0].strip()
    if not version:
        return None
    try:
        return _VERSIONS[version]
    except KeyError:
        raise InputError(
            f"{path}: events of format EVT {version}, expected {NAME} or DAT; convert it first"
        ) from None


_VERSIONS = {
    **dict.fromkeys(("2", "2.0", "20"), "evt2"),
    **dict.fromkeys(("2.1", "21"), "evt21"),
    **dict.fromkeys(("3", "3.0", "30"), "evt3"),
}


def matches(head: bytes, path: Path) -> bool:
    """True for a file whose header announces RAW events; InputError for a version that is not read."""
    return head.startswith(b"%") and kind(read_header(path), path) is not None


def open_stream(path: Path, chunk_events: int) -> EventStream:
    """Stream of a RAW file; a word that the end of the file cuts is counted."""
    header = read_header(path)
    found = kind(header, path) or ""
    new_decoder: Callable = DECODERS[found]
    words, rest = open_words(path, header, DECODERS[found].word)
    if found == "evt21":
        new_decoder = partial(evt21.Evt21, evt21.is_swapped(words))

    def chunks(stream: EventStream) -> Iterator[EventChunk]:
        decoder = new_decoder()
        stream.report.add(CUT, rest)
        for start in range(0, len(words), chunk_events):
            chunk, num_dropped = decoder(words[start : start + chunk_events])
            stream.report.add(UNTIMED, num_dropped)
            yield chunk

    return EventStream(path, found, header.width, header.height, chunks)


def open_words(path: Path, header: Header, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """Memory-mapped words after the header, and the number of bytes after the last whole word."""
    num_words, rest = divmod(path.stat().st_size - header.offset, dtype.itemsize)
    if not num_words:
        return np.zeros(0, dtype), rest
    return np.memmap(path, dtype, "r", header.offset, num_words).view(np.ndarray), rest


def _last(marked: np.ndarray) -> np.ndarray:
    """Index of the last True at or before each position, -1 before the first."""
    return np.maximum.accumulate(np.where(marked, np.arange(len(marked)), -1))


class Evt2:
    """EVT2 decoder: CD words carry 6 bits of time, TIME_HIGH the 28 above."""

    word = np.dtype("<u4")
    _OFF, _ON, _TIME_HIGH = 0x0, 0x1, 0x8

    def __init__(self):
        self._high: int | None = None  # unwrapped TIME_HIGH, None before the first

    def __call__(self, words: np.ndarray) -> tuple[EventChunk, int]:
        """Decode the next words; return their events, and the number dropped for want of a time."""
        code = words >> 28
        is_high = code == self._TIME_HIGH
        high = (words[is_high] & 0x0FFF_FFFF).astype(np.int64)
        before, wraps = (None, 0) if self._high is None else (self._high % (1 << 28), self._high >> 28)
        high = unwrap(high, 1 << 28, before, wraps)
        known = np.concatenate([[-1 if self._high is None else self._high], high])
        is_event = code <= self._ON
        event_high = known[np.cumsum(is_high)[is_event]]
        word = words[is_event]
        events = EventChunk(
            event_high << 6 | (word >> 22 & 0x3F).astype(np.int64),
            (word >> 11 & 0x7FF).astype(np.int16),
            (word & 0x7FF).astype(np.int16),
            (word >> 28).astype(np.int8),
        )
        self._high = None if known[-1] < 0 else int(known[-1])
        timed = event_high >= 0
        return (events, 0) if timed.all() else (events.take(timed), int((~timed).sum()))


def _count(marked: np.ndarray) -> np.ndarray:
    """Number of True at or before each position."""
    return np.cumsum(marked, dtype=np.int32)


def _set_bits(bits: np.ndarray, is_single: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the word and position in it of every set bit of `bits` uint16 [N]; singles have bit 0."""
    word = np.arange(len(bits))
    if is_single.all():
        return word, np.zeros(len(bits), np.int64)
    flat = np.flatnonzero(np.unpackbits(bits[~is_single].view(np.uint8), bitorder="little"))
    counts = np.ones(len(bits), np.int64)
    counts[~is_single] = np.bincount(flat >> 4, minlength=len(bits) - int(is_single.sum()))
    word = np.repeat(word, counts)
    offset = np.zeros(len(word), np.int64)
    offset[~is_single[word]] = flat & 15
    return word, offset


class Evt3:
    """EVT3 decoder: time, row and column have words of their own; vectors hold up to 12 columns of a row."""

    word = np.dtype("<u2")
    _Y, _X, _BASE_X, _VECTOR_12, _VECTOR_8, _TIME_LOW, _TIME_HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8

    _COLUMNS = np.zeros(16, np.uint8)  # of a word of each type
    _COLUMNS[[_VECTOR_12, _VECTOR_8]] = 12, 8

    def __init__(self):
        self._state = np.zeros(0, np.uint16)  # words that restore time, row and column
        self._high: int | None = None  # unwrapped TIME_HIGH, None before the first

    def __call__(self, words: np.ndarray) -> tuple[EventChunk, int]:
        """Decode the next words; return their events, and the number dropped for want of a time or row."""
        words = np.concatenate([self._state, words])
        if not len(words):
            words = np.full(1, 0xF000, np.uint16)  # CONTINUED_12, which changes nothing
        code, value = words >> 12, words & 0x0FFF
        is_row, is_base, is_single = code == self._Y, code == self._BASE_X, code == self._X
        is_time = (code == self._TIME_LOW) | (code == self._TIME_HIGH)
        times = np.append(-1, self._times(code[is_time], value[is_time]))
        rows, bases = np.append(-1, value[is_row].astype(np.int64)), np.append(-1, np.flatnonzero(is_base))
        # A vector starts where the one before it ended, counted from the last VECT_BASE_X.
        step = self._COLUMNS[code]
        end = np.cumsum(step, dtype=np.int32)
        at = np.flatnonzero(is_single | (step > 0))
        time, row = times[_count(is_time)[at]], rows[_count(is_row)[at]]
        base = np.where(is_single[at], at, bases[_count(is_base)[at]])
        bits = np.where(is_single[at], 1, value[at] & ((1 << step[at].astype(np.uint16)) - 1)).astype("<u2")
        usable = (time >= 0) & (row >= 0) & (base >= 0)
        num_dropped = 0
        if not usable.all():
            num_dropped = int(np.unpackbits(bits[~usable].view(np.uint8)).sum())
            at, time, row, base, bits = at[usable], time[usable], row[usable], base[usable], bits[usable]
        word, offset = _set_bits(bits, is_single[at])
        column = (value[base] & 0x7FF) + (end - step)[at] - end[base]
        events = EventChunk(
            time[word],
            (column[word] + offset & 0x7FF).astype(np.int16),
            (row & 0x7FF).astype(np.int16)[word],
            (value[base] >> 11).astype(np.int8)[word],
        )
        reached = 0 if bases[-1] < 0 else int(end[-1] - end[bases[-1]])
        self._remember(value, int(times[-1]), int(rows[-1]), int(bases[-1]), reached)
        return events, num_dropped

    def _times(self, code, value):
        """Time in microseconds at each of the words of time, -1 before the first TIME_HIGH."""
        # A TIME_LOW below the one before it is a late event of the sensor, not a wrap: only TIME_HIGH wraps.
        high_at = np.flatnonzero(code == self._TIME_HIGH)
        before, wraps = (None, 0) if self._high is None else (self._high % 4096, self._high >> 12)
        highs = unwrap(value[high_at], 4096, before, wraps)
        known = np.concatenate([[-1 if self._high is None else self._high], highs])
        changed = np.zeros(len(code), bool)
        changed[high_at] = np.diff(known) != 0
        high = known[np.cumsum(code == self._TIME_HIGH)]
        # A new TIME_HIGH begins its 4096 us at 0 until a TIME_LOW says otherwise.
        low_at = _last((code == self._TIME_LOW) | changed)
        low = np.where((low_at >= 0) & (code[low_at] == self._TIME_LOW), value[low_at], 0).astype(np.int64)
        self._high = None if known[-1] < 0 else int(known[-1])
        return np.where(high >= 0, high << 12 | low, -1)

    def _remember(self, value, time, row, base, reached):
        state = []
        if time >= 0:
            state += [self._TIME_HIGH << 12 | time >> 12 & 0xFFF, self._TIME_LOW << 12 | time & 0xFFF]
        if row >= 0:
            state.append(self._Y << 12 | row)
        if base >= 0:
            column = (int(value[base]) & 0x7FF) + reached
            state.append(self._BASE_X << 12 | int(value[base]) & 0x800 | column & 0x7FF)
        self._state = np.array(state, np.uint16)


DECODERS = {"evt2": Evt2, "evt21": evt21.Evt21, "evt3": Evt3}


def write_evt2(path: str | os.PathLike, events: EventChunk, width: int, height: int) -> None:
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
    _write_raw(path, "2.0", width, height, words[wanted])


def write_evt3(path: str | os.PathLike, events: EventChunk, width: int, height: int) -> None:
    """Write an EVT3 RAW file without vectors.

    Times are non-decreasing, two neighbours less than 2^23 us apart; a reader gets them modulo 2^24 us of the
    first.
    """
    t, y = events.t_us, events.y.astype(np.int64)
    if len(t) and np.diff(t, prepend=t[:1]).max() >= 1 << 23:
        raise InputError(
            "a pause of 8 s or more between events, expected less, which EVT3 can hold; write DAT instead"
        )
    words = np.empty((len(t), 4), "<u2")
    words[:, 0] = 0x8 << 12 | t >> 12 & 0xFFF
    words[:, 1] = 0x6 << 12 | t & 0xFFF
    words[:, 2] = y
    words[:, 3] = 0x2 << 12 | events.p.astype(np.int64) << 11 | events.x.astype(np.int64)
    wanted = np.ones(words.shape, bool)
    wanted[1:, 0] = np.diff(t >> 12) != 0
    wanted[1:, 1] = np.diff(t) != 0
    wanted[1:, 2] = np.diff(y) != 0
    _write_raw(path, "3.0", width, height, words[wanted])


def _write_raw(path, version, width, height, words):
    text = (
        f"% evt {version}\n% format EVT{version[0]};height={height};width={width}\n"
        f"% geometry {width}x{height}\n% end\n"
    )
    with atomic(path) as temporary, open(temporary, "wb") as file:
        file.write(text.encode() + words.tobytes())
