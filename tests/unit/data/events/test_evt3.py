"""EVT3 words against a decoder that reads one word after the other, as the format describes it."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet.data.events.evt3 import Evt3
from jaxdet.data.events.streams import concatenate

TYPES = [0, 2, 3, 4, 5, 6, 8, 7, 10, 14, 15, 1]  # the last five say nothing of change detections


def _word_by_word(words):
    """Events (t, x, y, p) and the number of those that lack a time, a row or a column."""
    high = low = row = base = None
    wraps, sign, events, dropped = 0, 0, [], 0

    def add(column, polarity):
        nonlocal dropped
        if high is None or row is None or column is None:
            dropped += 1
        else:
            events.append(((wraps << 12 | high) << 12 | low, column & 0x7FF, row, polarity))

    for word in map(int, words):
        kind, value = word >> 12, word & 0xFFF
        if kind == 0:
            row = value & 0x7FF
        elif kind == 2:
            add(value & 0x7FF, value >> 11)
        elif kind == 3:
            base, sign = value & 0x7FF, value >> 11
        elif kind in (4, 5):
            width = 12 if kind == 4 else 8
            for bit in range(width):
                if value >> bit & 1:
                    add(None if base is None else base + bit, sign)
            base = None if base is None else base + width
        elif kind == 6:
            low = value if high is not None else low
        elif kind == 8:
            wraps += high is not None and value - high < -2048
            low = low if value == high else 0
            high = value
    return events, dropped


@given(
    st.lists(st.tuples(st.sampled_from(TYPES), st.integers(0, 4095)), max_size=120),
    st.lists(st.integers(0, 120), max_size=6),
    st.booleans(),
)
@settings(deadline=None, max_examples=300)
def test_any_words_in_any_blocks_decode_as_one_after_the_other(pairs, cuts, known):
    start = [8 << 12 | 7, 5, 3 << 12 | 9] if known else []  # time, row and column from the beginning
    words = np.array([*start, *(kind << 12 | value for kind, value in pairs)], "<u2")
    decoder, parts, dropped = Evt3(), [], 0
    bounds = [0, *sorted(min(cut, len(words)) for cut in cuts), len(words)]
    for low, high in itertools.pairwise(bounds):
        events, lost = decoder(words[low:high])
        parts.append(events)
        dropped += lost
    expected, lost = _word_by_word(words)
    assert dropped == lost
    assert list(zip(*(column.tolist() for column in concatenate(parts)))) == expected


def test_a_late_time_of_the_sensor_is_not_a_wrap_and_a_fall_of_the_upper_half_is():
    words = np.array([0x8FFF, 0x6010, 0x0001, 0x2003, 0x6005, 0x2004, 0x8000, 0x2805], "<u2")
    events, _ = Evt3()(words)
    assert events.t_us.tolist() == [0xFFF010, 0xFFF005, 0x1000000]
    assert (events.x.tolist(), events.p.tolist()) == ([3, 4, 5], [0, 0, 1])
