"""Chunks of ECF: bytes put together by hand from the format's description, and a round trip."""

import struct

import event_writers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet.data.events import ecf
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError


def rows(events):
    return list(zip(*(column.tolist() for column in events), strict=True))


def test_rows_columns_and_polarity_in_one_group():
    # Two events at 7, one at 7 + 3, one at 10 + 0x21 (the digits 1 and 2, lowest first).
    times = struct.pack("<Q", 7) + bytes([0x02, 0x31, 0xF1, 0xF2, 0x01])
    values = [y << 12 | x << 1 | p for x, y, p in ((1, 2, 1), (1279, 719, 0), (640, 0, 1), (0, 719, 1))]
    a, b, c, d = values
    words = (a << 8 | b & 0xFF, b >> 8 << 16 | c & 0xFFFF, c >> 16 << 24 | d)
    data = struct.pack("<I", 4 << 2 | 2) + times + struct.pack("<3I", *words)
    assert rows(ecf.decode(data)) == [(7, 1, 2, 1), (7, 1279, 719, 0), (10, 640, 0, 1), (43, 0, 719, 1)]


def test_columns_and_polarity_in_groups_and_rows_in_runs():
    # 40 events of one time: 15 in the lower half of the byte, then the number in 16 bits. Rows: 31 and the
    # number, then 5. The tenth group of four is whole.
    times = struct.pack("<QBH", 1_000_000, 0x0F, 40)
    ys = struct.pack("<HHH", 300 << 5 | 31, 35, 301 << 5 | 5)
    group = struct.pack("<3H", 5 << 1 << 4 | 0xF, 0x0F0 >> 4 << 8 | 3, 0x0 << 12 | 0xFFE)
    # Values 10; 0xFF (15 low bits of the first word, 0x0F above); 3; 0xFFE: x 5, 127, 1, 2047.
    data = struct.pack("<I", 40 << 2 | 1) + times + ys + group * 10
    events = ecf.decode(data)
    assert events.t_us.tolist() == [1_000_000] * 40
    assert events.y.tolist() == [300] * 35 + [301] * 5
    assert rows(events)[:4] == [
        (1_000_000, 5, 300, 0),
        (1_000_000, 127, 300, 1),
        (1_000_000, 1, 300, 1),
        (1_000_000, 2047, 300, 0),
    ]


def test_masked_columns_and_runs_of_polarity():
    # Column 10 with 11, 13 and 15 (mask 10101), then column 700 alone; polarity 1 twice, 0 three times.
    data = struct.pack("<I", 5 << 2) + struct.pack("<QB", 5, 0x05) + struct.pack("<H", 9 << 5 | 5)
    data += struct.pack("<HH", 10 << 5 | 0b10101, 700 << 5) + bytes([0x80 | 2, 3])
    expected = [(5, x, 9, p) for x, p in ((10, 1), (11, 1), (13, 0), (15, 0), (700, 0))]
    assert rows(ecf.decode(data)) == expected


def test_polarity_of_many_events_and_a_long_step_of_time():
    # 300 events: 127 in the lower bits, then the number in 16 bits. A step of 2^36 us has ten digits.
    step = bytes([0xF0] * 9 + [0xF1])
    times = struct.pack("<Q", 0) + step + struct.pack("<BH", 0x0F, 300)
    data = struct.pack("<I", 300 << 2) + times + struct.pack("<HH", 31, 300)
    data += struct.pack("<300H", *(x << 5 for x in range(300))) + struct.pack("<BH", 0x7F, 300)
    events = ecf.decode(data)
    assert set(events.t_us.tolist()) == {1 << 36}
    assert (events.x.tolist(), set(events.p.tolist())) == (list(range(300)), {0})


EVENTS = st.lists(
    st.tuples(
        st.sampled_from((0, 0, 0, 1, 14, 15, 16, 4096, 1 << 33)),
        st.integers(0, 2047),
        st.sampled_from((0, 5, 719, 2047)),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(EVENTS, st.sampled_from(("yxp", "xp", "masked")), st.sampled_from((1, 3, 20, 140)))
def test_decoding_inverts_encoding(drawn, kind, repeats):
    step, x, y, p = (np.repeat(np.array(column, np.int64), repeats) for column in zip(*drawn, strict=True))
    steps = np.where(np.arange(len(step)) % repeats, 0, step)
    events = EventChunk(1_600_000_000_000_000 + np.cumsum(steps), x, y, p)
    found = ecf.decode(event_writers.ecf_chunk(events, kind))
    for column, expected in zip(found, events, strict=True):
        np.testing.assert_array_equal(column, expected)


@pytest.mark.parametrize("kind", ["yxp", "xp", "masked"])
def test_every_cut_of_a_chunk_is_an_input_error(kind):
    rng = np.random.default_rng(0)
    t, y = np.sort(rng.integers(0, 3000, 64)), np.repeat(rng.integers(0, 700, 8), 8)
    events = EventChunk(t, rng.integers(0, 1280, 64), y, rng.integers(0, 2, 64))
    data = event_writers.ecf_chunk(events, kind)
    for length in range(len(data)):
        with pytest.raises(InputError):
            ecf.decode(data[:length])


def test_more_events_than_a_chunk_holds_are_an_input_error():
    with pytest.raises(InputError, match="holds at most 65535"):
        ecf.decode(struct.pack("<I", 65536 << 2) + bytes(100))
