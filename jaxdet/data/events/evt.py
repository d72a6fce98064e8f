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
from jaxdet.data.events.evt3 import Evt3
from jaxdet.data.events.evt21 import spread, unwrap
from jaxdet.data.events.streams import CUT, UNTIMED, EventChunk, EventStream, Header, blocks, read_header
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
    word = DECODERS[found].word
    num_words, rest = divmod(path.stat().st_size - header.offset, word.itemsize)
    words = partial(blocks, path, word, header.offset, chunk_events)
    if found == "evt21":
        first = list(words(min(evt21.LOOKED_AT, num_words)))
        new_decoder = partial(evt21.Evt21, evt21.is_swapped(np.concatenate([np.zeros(0, word), *first])))

    def chunks(stream: EventStream) -> Iterator[EventChunk]:
        decoder = new_decoder()
        stream.report.add(CUT, rest)
        for block in words(num_words):
            chunk, num_dropped = decoder(block)
            stream.report.add(UNTIMED, num_dropped)
            yield chunk

    return EventStream(path, found, header.width, header.height, chunks)


_TIME_HIGH, _FIRST_OTHER = 0x8, np.uint32(0x2 << 28)  # words below are events, OFF and ON


class Evt2:
    """EVT2 decoder: CD words carry 6 bits of time, TIME_HIGH the 28 above."""

    word = np.dtype("<u4")

    def __init__(self):
        self._high: int | None = None  # unwrapped TIME_HIGH, None before the first

    def __call__(self, words: np.ndarray) -> tuple[EventChunk, int]:
        """Decode the next words; return their events, and the number dropped for want of a time."""
        is_event = words < _FIRST_OTHER
        other = np.flatnonzero(~is_event)
        is_high = words[other] >> 28 == _TIME_HIGH
        high_at = (other - np.arange(len(other)))[is_high]  # events before each TIME_HIGH
        before, wraps = (None, 0) if self._high is None else (self._high % (1 << 28), self._high >> 28)
        high = unwrap(words[other[is_high]] & 0x0FFF_FFFF, 1 << 28, before, wraps)
        word = words[is_event]
        t_us = spread(high << 6, high_at, len(word), -64 if self._high is None else self._high << 6)
        t_us |= word >> 22 & 0x3F
        events = EventChunk(
            t_us,
            (word >> 11).astype(np.int16) & 0x7FF,
            word.astype(np.int16) & 0x7FF,
            (word >> 28).astype(np.int8),
        )
        self._high = int(high[-1]) if len(high) else self._high
        if not len(t_us) or t_us[0] >= 0:
            return events, 0
        timed = t_us >= 0
        return events.take(timed), int((~timed).sum())


DECODERS = {"evt2": Evt2, "evt21": evt21.Evt21, "evt3": Evt3}


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
    text = f"% evt 3.0\n% format EVT3;height={height};width={width}\n% geometry {width}x{height}\n% end\n"
    with atomic(path) as temporary, open(temporary, "wb") as file:
        file.write(text.encode() + words[wanted].tobytes())
