import numpy as np
import pytest

from jaxdet.data.events import streams
from jaxdet.data.events.open import open_events
from jaxdet.data.events.streams import concatenate

WORDS = np.array(
    [
        0x1 << 60 | 3 << 54 | 5 << 43 | 7 << 32 | 0b101,  # two events before the first TIME_HIGH
        0x8 << 60 | 2 << 32,
        0x0 << 60 | 3 << 54 | 64 << 43 | 7 << 32 | 1 << 31 | 1,  # columns 64 and 95
        0xA << 60 | 1 << 32,  # external trigger
        0xE << 60 | 5,
        0x1 << 60 | 63 << 54 | 2016 << 43 | 2047 << 32 | 0b10,
        0x8 << 60 | 0xFFFFFFF << 32,
        0x8 << 60,  # the counter of 28 bits starts again
        0x1 << 60 | 1 << 54 | 1,
    ],
    "<u8",
)
EVENTS = [
    (2 << 6 | 3, 64, 7, 0),
    (2 << 6 | 3, 95, 7, 0),
    (2 << 6 | 63, 2017, 2047, 1),
    ((1 << 34) + 1, 0, 0, 1),
]


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
@pytest.mark.parametrize("header", ["% evt 2.1\n", "% format EVT21;height=320;width=320\n% end\n"])
@pytest.mark.parametrize("upper_first", [False, True])
def test_words_by_hand_in_both_orders_of_halves(tmp_path, chunk, header, upper_first):
    words = WORDS.view("<u4").reshape(-1, 2)[:, ::-1] if upper_first else WORDS
    (tmp_path / "a.raw").write_bytes(header.encode() + words.tobytes())
    stream = open_events(tmp_path / "a.raw", chunk)
    assert list(zip(*concatenate(stream))) == EVENTS
    assert stream.report.counts == {streams.UNTIMED: 2}
