"""Filters of events before the model, off by default: hot pixels and background activity.

Both look at the pixels and the clock of the camera, and count what they leave out.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError
from jaxdet.structs import ReadReport

HOT, ALONE = "events of hot pixels", "events without another around them"
FIND = "find"  # in place of names: hot pixels are looked for
_LOOKED_AT_US = 10_000_000  # of a recording, to find hot pixels
_HOT_RATE, _HOT_EVENTS, _HOT_FACTOR = 10, 20, 10  # a second; in all; as many as the pixels around


class Filters(NamedTuple):
    """Events that are left out before the model sees them."""

    hot_pixels: str | Sequence[Sequence[int]] = ()  # (x, y), camera's pixels; or FIND
    activity_us: int | None = None  # an event without another around it for so long is left out

    def check(self) -> "Filters":
        """These filters; InputError for pixels that are not pairs, and for a time that is not positive."""
        if isinstance(self.hot_pixels, str):
            if self.hot_pixels != FIND:
                raise InputError(f"hot pixels {self.hot_pixels!r}; expected pairs (x, y), or {FIND!r}")
        elif any(len(pixel) != 2 or min(pixel) < 0 for pixel in self.hot_pixels):
            raise InputError(f"hot pixels {list(self.hot_pixels)}; expected pairs (x, y) from 0 on")
        if self.activity_us is not None and self.activity_us <= 0:
            raise InputError(f"activity of {self.activity_us} us; expected a time above 0")
        return self

    @property
    def must_look(self) -> bool:
        """True if hot pixels are to be found in the recording first."""
        return self.hot_pixels == FIND


class EventFilter:
    """Filters at work on one stream of a camera (height, width); it remembers the newest event of a pixel."""

    def __init__(self, filters: Filters, camera: tuple[int, int]):
        self._activity_us = filters.activity_us
        self._hot = np.zeros(camera, bool)
        named: Any = () if filters.must_look else filters.hot_pixels
        for x, y in named:
            if x >= camera[1] or y >= camera[0]:
                raise InputError(f"hot pixel ({x}, {y}); expected one inside {camera[1]}x{camera[0]} pixels")
            self._hot[int(y), int(x)] = True
        self._any_hot = bool(self._hot.any())
        self._stride = camera[1] + 2  # one pixel more on each side, which has no events
        size = 0 if filters.activity_us is None else (camera[0] + 2) * self._stride
        self._newest = np.full(size, -(1 << 62), np.int64)

    def __call__(self, events: EventChunk, report: ReadReport) -> EventChunk:
        """The events that pass, of those on the sensor in order of time; the others are counted."""
        if self._any_hot:
            events = _take(events, ~self._hot[events.y, events.x], report, HOT)
        if self._activity_us is not None and len(events.t_us):
            events = _take(events, self._has_company(events, self._activity_us), report, ALONE)
        return events

    def _has_company(self, events: EventChunk, within_us: int) -> np.ndarray:
        """True for events [N] with an earlier one, kept or not, in the 8 pixels around, `within_us` ago.

        Delbruck (2008), "Frame-free dynamic digital vision". Later events at the same time count in the
        order in which they come.
        """
        count = len(events.t_us)
        pixel = (events.y.astype(np.int64) + 1) * self._stride + events.x + 1
        key = np.sort(pixel * count + np.arange(count))  # by pixel, then by position
        pixel, position = np.divmod(key, count)
        t_us = events.t_us[position]
        first = np.concatenate([[True], pixel[1:] != pixel[:-1]])
        found = np.full(count, -(1 << 62), np.int64)
        for step in (-self._stride - 1, -self._stride, -self._stride + 1, -1):
            for offset in (step, -step):
                # The last event of the neighbour that comes before this one; the queries are in order.
                at = np.searchsorted(key, key + offset * count) - 1
                inside = (at >= 0) & (pixel[at] == pixel + offset)
                np.maximum(found, np.where(inside, t_us[at], self._newest[pixel + offset]), out=found)
        last = np.flatnonzero(np.append(first[1:], True))
        self._newest[pixel[last]] = np.maximum(self._newest[pixel[last]], t_us[last])
        company = np.empty(count, bool)
        company[position] = t_us - found <= within_us
        return company


def find_hot(chunks: Iterable[EventChunk], camera: tuple[int, int]) -> list[tuple[int, int]]:
    """Hot pixels (x, y) of a camera (height, width), by the first 10 s of chunks in order of time.

    A pixel is hot with at least 20 events, 10 a second, and ten times those of the third of the 3 x 3 pixels
    around it, by their number, itself included: light that flickers covers more of them.
    """
    counts, first, last = np.zeros(camera, np.int64), None, 0
    for chunk in chunks:
        if not len(chunk.t_us):
            continue
        first = int(chunk.t_us[0]) if first is None else first
        chunk = chunk.take(slice(0, int(np.searchsorted(chunk.t_us, first + _LOOKED_AT_US))))
        if not len(chunk.t_us):
            break
        last = int(chunk.t_us[-1])
        flat = chunk.y.astype(np.int64) * camera[1] + chunk.x
        counts += np.bincount(flat, minlength=counts.size).reshape(camera)
    return hot_of(counts, last - (first or 0))


def hot_of(counts: np.ndarray, duration_us: int) -> list[tuple[int, int]]:
    """Hot pixels (x, y), as `find_hot` defines them, from the events of every pixel [height, width]."""
    hot = counts >= max(_HOT_EVENTS, _HOT_RATE * duration_us / 1e6)
    if hot.any():
        hot &= counts >= _HOT_FACTOR * ndimage.rank_filter(counts, -3, 3, mode="constant")
    return [(x, y) for y, x in np.argwhere(hot).tolist()]


def parse_hot_pixels(text: str) -> str | tuple[tuple[int, int], ...]:
    """Hot pixels "x:y,x:y", or FIND; InputError for another text."""
    if text == FIND:
        return text
    pairs = [word.split(":") for word in text.split(",")]
    if not all(len(pair) == 2 and all(part.strip().isdigit() for part in pair) for pair in pairs):
        raise InputError(f"--hot_pixels={text[:40]}: expected x:y,x:y,... in pixels, or {FIND}")
    return tuple((int(x), int(y)) for x, y in pairs)


def _take(events: EventChunk, kept: np.ndarray, report: ReadReport, reason: str) -> EventChunk:
    if kept.all():
        return events
    report.add(reason, int((~kept).sum()))
    return events.take(kept)
