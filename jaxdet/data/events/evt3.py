"""EVT3, the 16-bit words of Gen4 cameras: time, row and column in words of their own, vectors of columns.

Bits 15-12 of a word are its type, bits 11-0 its value: 0 row; 2 column and polarity of one event; 3 column
and polarity from which vectors count; 4 and 5 vectors, masks of the next 12 or 8 columns; 6 and 8 the lower
and the upper 12 bits of the time.

Times and rows are spread over the events that follow their words by `np.repeat`, so that almost every pass
over the words is over bytes or shorts.
"""

import numpy as np

from jaxdet.data.events.evt21 import spread, unwrap
from jaxdet.data.events.streams import EventChunk

_Y, _X, _BASE_X, _VECTOR_12, _VECTOR_8, _TIME_LOW, _TIME_HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
_COLUMNS = np.zeros(16, np.uint16)  # of a vector of each type
_COLUMNS[[_VECTOR_12, _VECTOR_8]] = 12, 8
_MASKS = ((1 << _COLUMNS.astype(int)) - 1).astype(np.uint16)
_SET_BITS = np.zeros((1 << 12, 12), np.uint16)  # positions of the bits that are set, lowest first, by mask
_BITS = np.arange(1 << 12)[:, None] >> np.arange(12) & 1
_SET_BITS[np.nonzero(_BITS)[0], (np.cumsum(_BITS, 1) - 1)[_BITS > 0]] = np.nonzero(_BITS)[1]


class Evt3:
    """EVT3 decoder, which is called with consecutive blocks of words."""

    word = np.dtype("<u2")

    def __init__(self):
        self._state = np.zeros(0, np.uint16)  # words that restore time, row and column
        self._high: int | None = None  # unwrapped TIME_HIGH, None before the first

    def __call__(self, words: np.ndarray) -> tuple[EventChunk, int]:
        """Decode the next words; return their events, and the number dropped for want of a time or row."""
        words = np.concatenate([self._state, words])
        code = (words >> 12).astype(np.uint8)
        is_vector = (code == _VECTOR_12) | (code == _VECTOR_8)
        holds = is_vector | (code == _X)  # events
        at, before = np.flatnonzero(holds), np.cumsum(holds, dtype=np.int32)
        place = words[at] & 0x0FFF  # column, and polarity above it
        times_at = np.flatnonzero((code == _TIME_LOW) | (code == _TIME_HIGH))
        rows_at, bases_at = np.flatnonzero(code == _Y), np.flatnonzero(code == _BASE_X)
        times = self._times(code[times_at], words[times_at] & 0x0FFF)
        rows = (words[rows_at] & 0x07FF).view(np.int16)
        bases, since_base = words[bases_at] & 0x0FFF, before[bases_at]
        starts_at, since_row, covered, misplaced = before[times_at], before[rows_at], 0, None
        if is_vector.any():
            vector = np.flatnonzero(is_vector[at])
            kind = code[at[vector]]
            until_base = np.searchsorted(vector, since_base)
            starts, covered = _starts(_COLUMNS[kind], bases, until_base)
            masks = place[vector] & _MASKS[kind]
            begin, place, of_vector = _expanded(place, vector, starts, masks)
            starts_at, since_row = begin[starts_at], begin[since_row]
            if without := int(until_base[0]) if len(bases) else len(vector):
                # Vectors before the first VECT_BASE_X have no column.
                misplaced = of_vector[: int(np.bitwise_count(masks[:without]).sum())]
        events = EventChunk(
            spread(times, starts_at, len(place)),
            (place & 0x07FF).view(np.int16),
            spread(rows, since_row, len(place)),
            (place >> 11).astype(np.int8),
        )
        base = None if not len(bases) else int(bases[-1])
        if base is not None:
            base = base & 0x0800 | (base & 0x07FF) + covered & 0x07FF
        self._remember(times, rows, base)
        return _usable(events, misplaced)

    def _times(self, code: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Time in microseconds at each of the words of time, negative before the first TIME_HIGH."""
        # A TIME_LOW below the one before it is a late event of the sensor, not a wrap: only TIME_HIGH wraps.
        is_high = code == _TIME_HIGH
        high_at = np.flatnonzero(is_high)
        before, wraps = (None, 0) if self._high is None else (self._high % 4096, self._high >> 12)
        highs = unwrap(value[high_at], 4096, before, wraps)
        last_high = -1 if self._high is None else self._high
        low = np.where(is_high, 0, value).astype(np.int64)
        # A new TIME_HIGH begins its 4096 us at 0 until a TIME_LOW says otherwise; a repeated one is no news.
        repeated = high_at[np.diff(highs, prepend=last_high) == 0]
        if len(repeated):
            last = np.arange(len(code), dtype=np.int32)
            last[repeated] = 0
            low = low[np.maximum.accumulate(last)]
        if len(highs):
            self._high = int(highs[-1])
        return spread(highs << 12, high_at, len(code), last_high << 12) | low

    def _remember(self, times: np.ndarray, rows: np.ndarray, base: int | None) -> None:
        state = []
        for time in times[-1:].tolist():
            if time >= 0:
                state += [_TIME_HIGH << 12 | time >> 12 & 0xFFF, _TIME_LOW << 12 | time & 0xFFF]
        state += [_Y << 12 | row for row in rows[-1:].tolist()]
        if base is not None:
            state.append(_BASE_X << 12 | base)
        self._state = np.array(state, np.uint16)


def _starts(steps: np.ndarray, bases: np.ndarray, until_base: np.ndarray) -> tuple[np.ndarray, int]:
    """First column with polarity above it, uint16 [V], of vectors that cover `steps` columns.

    A vector starts where the one before it ended, counted from the last of `bases`, before which lie
    `until_base` vectors. The number of columns that were covered since the last base is the second value.
    """
    ends = np.concatenate([[0], np.cumsum(steps, dtype=np.int64)])
    covered = ends[:-1] - spread(ends[until_base], until_base, len(steps), 0)
    base = spread(bases, until_base, len(steps), 0)
    starts = (base + covered & 0x07FF).astype(np.uint16) | base & 0x0800
    return starts, int(ends[-1] - ends[until_base[-1]]) if len(until_base) else 0


def _expanded(
    place: np.ndarray, vector: np.ndarray, starts: np.ndarray, masks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events of words that hold one, at `place`, or the bits of one of `masks`, at rows `vector`.

    Return the first event of each word and of the end, the place of each event, and the events of vectors.
    """
    counts = np.bitwise_count(masks)
    more = np.cumsum(counts, dtype=np.int64) - np.arange(1, len(vector) + 1)
    begin = np.arange(len(place) + 1)
    begin += spread(more, vector + 1, len(begin), 0)
    out = np.empty(int(begin[-1]) + 1, np.uint16)
    out[begin[:-1]] = place  # that of a vector without events is overwritten by the next, or cut off
    owner = np.repeat(np.arange(len(vector)), counts)
    rank = np.arange(len(owner)) - (np.cumsum(counts, dtype=np.int64) - counts)[owner]
    start = starts[owner]
    of_vector = begin[vector][owner] + rank
    out[of_vector] = start & 0x0800 | start + _SET_BITS[masks[owner], rank] & 0x07FF
    return begin, out[:-1], of_vector


def _usable(events: EventChunk, misplaced: np.ndarray | None) -> tuple[EventChunk, int]:
    """Events with a time, a row and a column, and the number of the others, which come first in a file.

    `misplaced` are the numbers of those without a column, None for none.
    """
    if misplaced is None and not (len(events.t_us) and (events.t_us[0] < 0 or events.y[0] < 0)):
        return events, 0
    usable = (events.t_us >= 0) & (events.y >= 0)
    if misplaced is not None:
        usable[misplaced] = False
    return events.take(usable), int((~usable).sum())
