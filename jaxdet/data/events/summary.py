"""Facts about a recording from one pass over its events, in bounded memory."""

from typing import Any

import numpy as np

from jaxdet.data.events.filters import EventFilter, Filters, find_hot, hot_of
from jaxdet.data.events.fit import OUTSIDE_SENSOR
from jaxdet.data.events.streams import EventChunk, EventStream
from jaxdet.structs import ReadReport

BIN_US, GAP_US = 5_000, 100_000
_MOST_PIXELS = 1 << 12  # columns and rows that are counted where the sensor's size is not stated
_LISTED = 5  # gaps and pixels


def summarise(
    stream: EventStream,
    filters: Filters = Filters(),  # noqa: B008   (immutable)
) -> dict[str, Any]:
    """Facts about a stream, as JSON has them, of the events that pass `filters`.

    `sensor` and `reaches` are (width, height) in pixels, the first None where the file does not state it.
    Times are microseconds in the clock of the camera, rates events a second. `peak` is the fullest 5 ms,
    aligned with the clock. `gaps` longer than 100 ms are [time before, time after], the longest ones first;
    `hottest` pixels are [column, row, events], `hot` ones, [column, row], those that fire ten times as often
    as the pixels around them. `left_out` counts what is in none of these, by reason, and
    `changed` what was read otherwise than it stands in the file.
    """
    bins, pixels = _Bins(), _Pixels(stream.width, stream.height)
    if filters.must_look:
        filters = filters._replace(hot_pixels=find_hot(map(pixels.inside, stream.ordered()), pixels.limit))
    passing, report = EventFilter(filters, pixels.limit), ReadReport()
    num_events = num_on = 0
    first = last = None
    gaps: list[tuple[int, int]] = []
    num_gaps = 0
    for chunk in stream.ordered():
        kept = passing(pixels.inside(chunk, report), report)
        if not len(kept.t_us):
            continue
        pixels.add(kept)
        first = int(kept.t_us[0]) if first is None else first
        times = np.concatenate(([kept.t_us[0] if last is None else last], kept.t_us))
        after = np.flatnonzero(np.diff(times) > GAP_US)
        num_gaps += len(after)
        gaps += [(int(times[at]), int(times[at + 1])) for at in after]
        gaps = sorted(gaps, key=lambda gap: gap[0] - gap[1])[:_LISTED]
        bins.add(kept.t_us)
        num_events, num_on, last = num_events + len(kept.t_us), num_on + int(kept.p.sum()), int(kept.t_us[-1])
    duration_us = 0 if first is None or last is None else last - first
    stated = stream.width is not None and stream.height is not None
    return {
        "format": stream.kind,
        "sensor": [stream.width, stream.height] if stated else None,
        "reaches": pixels.extent(),
        "events": num_events,
        "first_us": first,
        "last_us": last,
        "duration_s": duration_us / 1e6,
        "rate": num_events / (duration_us / 1e6) if duration_us else None,
        "peak": bins.peak(),
        "num_gaps": num_gaps,
        "gaps": [list(gap) for gap in gaps],
        "on_share": num_on / num_events if num_events else None,
        "hottest": pixels.hottest(),
        "hot": [list(pixel) for pixel in hot_of(pixels.counts, duration_us)],
        "left_out": {**stream.report.counts, **report.counts},
        "changed": dict(stream.report.notes),
    }


class _Bins:
    """The fullest bin of time; times come in order, so all bins but the last one are complete."""

    def __init__(self):
        self._open, self._count = 0, 0
        self._best = (0, 0)  # events, bin

    def add(self, t_us: np.ndarray) -> None:
        index, counts = np.unique(t_us // BIN_US, return_counts=True)
        if self._count and index[0] == self._open:
            counts[0] += self._count
        else:
            self._best = max(self._best, (self._count, self._open))
        top = int(counts.argmax())
        self._best = max(self._best, (int(counts[top]), int(index[top])))
        self._open, self._count = int(index[-1]), int(counts[-1])

    def peak(self) -> dict[str, Any] | None:
        count, index = max(self._best, (self._count, self._open))
        return {"events": count, "start_us": index * BIN_US, "rate": count * 1e6 / BIN_US} if count else None


class _Pixels:
    """Events of every pixel, on a sensor whose size may not be known."""

    def __init__(self, width: int | None, height: int | None):
        self.limit = (height or _MOST_PIXELS, width or _MOST_PIXELS)
        self.counts = np.zeros((0, 0), np.int64)

    def inside(self, chunk: EventChunk, report: ReadReport | None = None) -> EventChunk:
        """The events on the sensor; the others are counted in `report`."""
        inside = (chunk.x >= 0) & (chunk.x < self.limit[1]) & (chunk.y >= 0) & (chunk.y < self.limit[0])
        if inside.all():
            return chunk
        if report is not None:
            report.add(OUTSIDE_SENSOR, int((~inside).sum()))
        return chunk.take(inside)

    def add(self, chunk: EventChunk) -> None:
        """Count events [N] on the sensor, N > 0."""
        self._grow(int(chunk.y.max()) + 1, int(chunk.x.max()) + 1)
        height, width = self.counts.shape
        flat = chunk.y.astype(np.int64) * width + chunk.x
        self.counts += np.bincount(flat, minlength=height * width).reshape(height, width)

    def _grow(self, height: int, width: int) -> None:
        more = [max(height - self.counts.shape[0], 0), max(width - self.counts.shape[1], 0)]
        if any(more):
            self.counts = np.pad(self.counts, ((0, more[0]), (0, more[1])))

    def extent(self) -> list[int]:
        height, width = self.counts.shape
        return [width, height]

    def hottest(self) -> list[list[int]]:
        flat = self.counts.reshape(-1)
        order = np.argsort(-flat, kind="stable")[:_LISTED]
        width = max(self.counts.shape[1], 1)
        return [[int(at % width), int(at // width), int(flat[at])] for at in order if flat[at]]
