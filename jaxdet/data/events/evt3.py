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


class Evt3:
    """EVT3 decoder, which is called with consecutive blocks of words."""

    word = np.dtype("<u2")

    def __init__(self):
        self._state = np.zeros(0, np.uint16)  # words that restore time, row and column
        self._high: int | None = None  # unwrapped TIME_HIGH, None before the first

    def __call__(self, words: np.ndarray) -> tuple[EventChunk, int]:
        """Decode the next words; return their events, and the number dropped for want of a time or row."""
        words = np.concatenate([self._state, words])
        single = words & 0xF000 == _X << 12
        at, others = np.flatnonzero(single), np.flatnonzero(~single)
        place, value = words[at], words[others]
        code = (value >> 12).astype(np.uint8)
        value &= 0x0FFF
        others -= np.arange(len(others))
        before = others  # events before each of the other words
        times_at = np.flatnonzero((code == _TIME_LOW) | (code == _TIME_HIGH))
        rows_at, bases_at = np.flatnonzero(code == _Y), np.flatnonzero(code == _BASE_X)
        times = self._times(code[times_at], value[times_at])
        rows = (value[rows_at] & 0x07FF).view(np.int16)
        bases, covered, misplaced = value[bases_at], 0, None
        vector = np.flatnonzero(code & 0xE == _VECTOR_12)
        if len(vector):
            kind = code[vector]
            until_base = np.searchsorted(vector, bases_at)
            starts, covered = _starts(_COLUMNS[kind], bases, until_base)
            masks = value[vector] & _MASKS[kind]
            place, before, of_vector = _merged(place, before, vector, starts, masks)
            if without := int(until_base[0]) if len(bases) else len(vector):
                # Vectors before the first VECT_BASE_X have no column.
                misplaced = of_vector[: int(np.bitwise_count(masks[:without]).sum())]
        events = EventChunk(
            spread(times, before[times_at], len(place)),
            (place & 0x07FF).view(np.int16),
            spread(rows, before[rows_at], len(place)),
            (place >> 11).astype(np.int8) & 1,
        )
        base = None if not len(bases) else int(bases[-1])
        if base is not None:
            base = base & 0x0800 | (base & 0x07FF) + covered & 0x07FF
        self._remember(times, rows, base)
        return _usable(events, misplaced)

    def _times(self, code: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Time in microseconds at each of the words of time, negative before the first TIME_HIGH."""
        # A TIME_LOW below the one before it is a late event of the sensor, not a wrap: only TIME_HIGH wraps.
        high_at = np.flatnonzero(code == _TIME_HIGH)
        before, wraps = (None, 0) if self._high is None else (self._high % 4096, self._high >> 12)
        highs = unwrap(value[high_at], 4096, before, wraps)
        last_high = -1 if self._high is None else self._high
        low = value.astype(np.int64)
        if len(highs):
            low[high_at] = 0
            # A new TIME_HIGH begins its 4096 us at 0 until a TIME_LOW says otherwise; a repeated one says
            # nothing new.
            repeated = high_at[highs == np.concatenate([[last_high], highs[:-1]])]
            if len(repeated):
                follows = np.concatenate([[False], repeated[1:] == repeated[:-1] + 1])
                said_at = np.maximum.accumulate(np.where(follows, 0, repeated - 1))
                low[repeated] = low[said_at]
            self._high = int(highs[-1])
        low |= spread(highs << 12, high_at, len(code), last_high << 12)
        return low

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
    ends = np.zeros(len(steps) + 1, np.uint16)  # modulo 2^16, which the 2^11 columns divide
    np.cumsum(steps, dtype=np.uint16, out=ends[1:])
    covered = ends[until_base]
    origins = bases & 0x0800 | bases - covered & 0x07FF
    base = spread(origins, until_base, len(steps), 0)
    starts = base & 0x0800 | base + ends[:-1] & 0x07FF
    return starts, int(ends[-1] - covered[-1]) if len(bases) else 0


def _merged(
    place: np.ndarray, before: np.ndarray, vector: np.ndarray, starts: np.ndarray, masks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Single events at `place` and those of vectors, in the order of the words.

    `before` are the single events before each of the other words; `vector` are those of the latter that are
    vectors, with their first columns `starts` and their `masks`. Return the place of each event, the events
    before each of the other words, and which events are those of vectors.
    """
    some = np.flatnonzero(masks != 0)  # most masks are empty
    vector, starts, masks = vector[some], starts[some], masks[some]
    bits = np.flatnonzero(np.unpackbits(masks.view(np.uint8), bitorder="little").view(bool))
    owner = bits >> 4
    of_vector = before[vector][owner] + np.arange(len(bits))
    start = starts[owner]
    out = np.empty(len(place) + len(bits), np.uint16)
    out[of_vector] = start & 0x0800 | start + (bits & 15).astype(np.uint16) & 0x07FF
    is_single = np.ones(len(out), bool)
    is_single[of_vector] = False
    out[np.flatnonzero(is_single)] = place
    ends = np.cumsum(np.bitwise_count(masks), dtype=np.int64)
    return out, before + spread(ends, vector + 1, len(before), 0), of_vector


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
