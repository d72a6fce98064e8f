"""EVT2.1, the 64-bit words of GenX320 and IMX636 cameras: up to 32 neighbouring columns of a row in a word.

Bits 63-60 of a word are its type. Events (type 0 for OFF, 1 for ON): 59-54 low 6 bits of the time, 53-43
column, 42-32 row, 31-0 mask of the columns from there on. TIME_HIGH (8): 59-32 the 28 bits above. GenX320
cameras write a word little endian, IMX636 cameras its upper half first; headers do not always say which.
"""

import numpy as np

from jaxdet.data.events.streams import EventChunk

_TYPES = (0x0, 0x1, 0x8, 0xA, 0xE, 0xF)
_TIME_HIGH, _FIRST_OTHER = 0x8, np.uint32(0x2 << 28)  # words with events are below the second
LOOKED_AT = 1 << 16  # words from which the order of halves is found


def unwrap(values: np.ndarray, period: int, before: int | None, wraps: int) -> np.ndarray:
    """Add `period` wherever a counter falls by more than half of it; `before` is the counter in front."""
    values = values.astype(np.int64)
    if not len(values):
        return values
    highest = max(int(values.max()), values[0] if before is None else before)
    if highest - int(values.min()) <= period // 2:  # no fall can be that large
        return values + wraps * period if wraps else values
    falls = np.diff(values, prepend=values[:1] if before is None else before) < -(period // 2)
    return values + (wraps + np.cumsum(falls)) * period


def spread(values: np.ndarray, positions: np.ndarray, total: int, first: int = -1) -> np.ndarray:
    """Values for `total` entries: each of `values` from its position on to the next, `first` before."""
    bounds = np.empty(len(values) + 2, np.int64)
    bounds[0], bounds[1:-1], bounds[-1] = 0, positions, total
    padded = np.empty(len(values) + 1, values.dtype)
    padded[0], padded[1:] = first, values
    return np.repeat(padded, bounds[1:] - bounds[:-1])


class Evt21:
    """EVT2.1 decoder of little-endian words, or of words with their upper half first if `swapped`."""

    word = np.dtype("<u8")

    def __init__(self, swapped: bool = False):
        self._swapped = swapped
        self._high: int | None = None  # unwrapped TIME_HIGH, None before the first

    def __call__(self, words: np.ndarray) -> tuple[EventChunk, int]:
        """Decode the next words; return their events, and the number dropped for want of a time."""
        words = _swapped(words) if self._swapped else words
        upper = (words >> np.uint64(32)).astype(np.uint32)
        holds = upper < _FIRST_OTHER
        other = np.flatnonzero(~holds)
        is_high = upper[other] >> 28 == _TIME_HIGH
        high_at = (other - np.arange(len(other)))[is_high]  # words with events before each TIME_HIGH
        before, wraps = (None, 0) if self._high is None else (self._high % (1 << 28), self._high >> 28)
        high = unwrap(upper[other[is_high]] & 0x0FFF_FFFF, 1 << 28, before, wraps)
        masks, word = words[holds].astype("<u4"), upper[holds]
        t_us = spread(high << 6, high_at, len(word), -64 if self._high is None else self._high << 6)
        t_us |= word >> 22 & 0x3F
        self._high = int(high[-1]) if len(high) else self._high
        num_dropped = 0
        if len(t_us) and t_us[0] < 0:  # only words before the first TIME_HIGH have no time
            timed = t_us >= 0
            num_dropped = int(np.bitwise_count(masks[~timed]).sum())
            t_us, word, masks = t_us[timed], word[timed], masks[timed]
        row, offset = _columns(masks)
        events = EventChunk(
            t_us[row],
            ((word >> 11).astype(np.int16) & 0x7FF)[row] + offset.astype(np.int16),
            (word.astype(np.int16) & 0x7FF)[row],
            (word >> 28).astype(np.int8)[row],
        )
        return events, num_dropped


def _columns(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the mask, of `masks` uint32 [N], and position in it of every set bit, in this order."""
    parts = masks.view(np.uint8)
    at = np.flatnonzero(parts != 0)  # most of the 4 bytes of a mask are 0
    bits = np.flatnonzero(np.unpackbits(parts[at], bitorder="little").view(bool))
    byte = at[bits >> 3]
    return byte >> 2, (byte & 3) << 3 | bits & 7


def is_swapped(words: np.ndarray) -> bool:
    """True if the file has the upper half of each of its words [N] first.

    The order is the one in which more of the first words have a known type; of two alike, the one with more
    TIME_HIGH words that do not fall.
    """
    first = words[:LOOKED_AT]
    return _disorder(_swapped(first)) < _disorder(first)


def _swapped(words: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(words.view("<u4").reshape(-1, 2)[:, ::-1]).view("<u8").reshape(-1)


def _disorder(words: np.ndarray) -> tuple[int, int]:
    """Smallest for the right order: words of no known type, then few TIME_HIGH words that do not fall."""
    upper = (words >> np.uint64(32)).astype(np.uint32)
    code = upper >> 28
    high = (upper[code == _TIME_HIGH] & 0x0FFF_FFFF).astype(np.int64)
    steps = np.diff(high)
    falls = int(((steps < 0) & (steps > -(1 << 27))).sum())  # a larger one is the counter's wrap
    return int((~np.isin(code, _TYPES)).sum()), 2 * falls - len(high)
