"""Batches of consecutive segments of whole recordings or of live events, in bounded memory.

A lane reads one sequence after the other; `reset` is true on a sequence's first segment. This is test-time
input: there is no augmentation and no jitter, and step k of a sequence ends at (k + 1) * step_us.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from jaxdet.data.events import augment, packing
from jaxdet.data.events.streams import EventChunk, concatenate
from jaxdet.errors import InputError
from jaxdet.structs import Batch

# (number of the sequence, end times of a segment's steps int64 [T]) -> the steps to report, bool [T]
Wanted = Callable[[int, np.ndarray], np.ndarray]


_SILENCE_US = 60_000_000


class Segment(NamedTuple):
    """Events of one segment of a sequence."""

    start_us: int
    num_steps: int  # fewer than a whole segment at the sequence's end
    events: EventChunk


def of_recording(recording: Any, segment_us: int, step_us: int) -> Iterator[Segment]:
    """Segments of a prepared recording, read as they are needed; they cover its whole duration."""
    duration_us = 1000 * int(recording.duration_ms)
    for start in range(0, duration_us, segment_us):
        stop = min(start + segment_us, duration_us)
        raw = recording.events(start // 1000, -(-stop // 1000))
        yield Segment(start, -(-(stop - start) // step_us), raw)


def of_chunks(chunks: Iterable[Any], segment_us: int, step_us: int) -> Iterator[Segment]:
    """Segments of a stream of chunks (t_us, x, y, p) in order of time, counted from time 0.

    A segment is yielded as soon as an event after it arrives; the last one ends with the step of the last
    event. A camera's clock may have run for hours before: the empty segments before a first event that comes
    later than `_SILENCE_US` are left out; times stay those of the clock. Raises InputError when time runs
    backwards.
    """
    held: list[EventChunk] = []
    start = 0
    newest = -1
    for chunk in chunks:
        raw = EventChunk(*chunk)
        if not len(raw.t_us):
            continue
        if raw.t_us[0] < newest or (np.diff(raw.t_us) < 0).any():
            raise InputError(
                f"events after {max(newest, int(raw.t_us[0]))} us: time runs backwards, "
                "expected events in order of time; prepare the recording first, which sorts it"
            )
        if newest < 0 and raw.t_us[0] > _SILENCE_US:
            start = int(raw.t_us[0]) // segment_us * segment_us
        newest = int(raw.t_us[-1])
        while newest >= start + segment_us:
            cut = int(np.searchsorted(raw.t_us, start + segment_us))
            held.append(raw.take(slice(0, cut)))
            raw = raw.take(slice(cut, None))
            yield Segment(start, segment_us // step_us, concatenate(held))
            held = []
            start += segment_us
        held.append(raw)
    if held:
        yield Segment(start, (newest - start) // step_us + 1, concatenate(held))


def near(times_us: np.ndarray, tolerance_us: int) -> Callable[[np.ndarray], np.ndarray]:
    """Choose the steps that end less than `tolerance_us` from one of `times_us`."""
    times = np.sort(np.asarray(times_us, np.int64))

    def wanted(ends_us: np.ndarray) -> np.ndarray:
        after = np.searchsorted(times, ends_us - tolerance_us, side="right")
        return np.searchsorted(times, ends_us + tolerance_us, side="left") > after

    return wanted


class SequenceBatches(Iterator[Batch]):
    """Batches of consecutive segments of `sequences`, `num_lanes` of them side by side.

    A batch has `max_slots` slots per lane, or one for every step if None; slots in use are those of the steps
    that exist and that `wanted` names. `source` is int64, for the host: (number of the sequence, end of the
    step in microseconds). `lost_events` counts the events that did not fit the largest of `event_buckets`. A
    lane without a further sequence stays empty, without slots. Raises InputError for events outside `size`
    (height, width).
    """

    def __init__(
        self,
        sequences: Iterable[Iterable[Segment]],
        *,
        num_lanes: int = 1,
        segment_us: int,
        step_us: int,
        size: tuple[int, int],
        event_buckets: Iterable[int],
        max_slots: int | None = None,
        wanted: Wanted | None = None,
    ):
        if segment_us % step_us:
            raise InputError(f"segment of {segment_us} us, expected a multiple of the step of {step_us} us")
        self.lost_events = 0
        self._num_steps = segment_us // step_us
        self._step_us, self._size = step_us, size
        self._pixels = augment.pixel_map(augment.identity(*size))
        self._buckets = tuple(event_buckets)
        self._max_slots = max_slots or self._num_steps
        self._wanted = wanted
        self._waiting = zip(count(), sequences)
        self._lanes: list[tuple[int, Iterator[Segment]]] = [(-1, iter(())) for _ in range(num_lanes)]

    def __next__(self) -> Batch:
        taken = [self._take(lane) for lane in range(len(self._lanes))]
        if all(item is None for item in taken):
            raise StopIteration
        most = max(len(item[2].events.t_us) for item in taken if item)
        num = packing.bucket(most, self._buckets)
        batch = packing.empty(len(taken), num, self._num_steps, self._max_slots, 0)
        batch = batch._replace(source=batch.source.astype(np.int64))
        for lane, item in enumerate(taken):
            if item is None:
                continue
            sequence, first, segment = item
            batch.reset[lane] = first
            _check_inside(segment.events, self._size)
            self.lost_events += packing.put_events(
                batch, lane, segment.events, segment.start_us, self._pixels, self._step_us
            )
            self._put_slots(batch, lane, sequence, segment)
        return batch

    def _take(self, lane: int) -> tuple[int, bool, Segment] | None:
        """Next segment of a lane: number of its sequence, True if it is the sequence's first, segment."""
        number, segments = self._lanes[lane]
        first = False
        while (segment := next(segments, None)) is None:
            upcoming = next(self._waiting, None)
            if upcoming is None:
                return None
            number, segments, first = upcoming[0], iter(upcoming[1]), True
            self._lanes[lane] = (number, segments)
        return number, first, segment

    def _put_slots(self, batch: Batch, lane: int, sequence: int, segment: Segment) -> None:
        ends = segment.start_us + self._step_us * np.arange(1, self._num_steps + 1, dtype=np.int64)
        chosen = np.arange(self._num_steps) < segment.num_steps
        if self._wanted is not None:
            chosen &= self._wanted(sequence, ends)
        steps = np.flatnonzero(chosen)
        if len(steps) > self._max_slots:
            raise InputError(
                f"{len(steps)} steps to report in one segment, room for {self._max_slots}; raise max_slots"
            )
        batch.targets.at_step[lane, : len(steps)] = steps
        batch.targets.slot_mask[lane, : len(steps)] = True
        batch.source[lane, : len(steps), 0] = sequence
        batch.source[lane, : len(steps), 1] = ends[steps]


def _check_inside(raw: EventChunk, size: tuple[int, int]) -> None:
    for name, column, limit in (("column", raw.x, size[1]), ("row", raw.y, size[0])):
        if len(column) and not 0 <= column.min() <= column.max() < limit:
            worst = column.min() if column.min() < 0 else column.max()
            raise InputError(
                f"event in {name} {worst}, expected 0 to {limit - 1}: "
                "the input comes from another sensor than "
                f"the config's {size[1]}x{size[0]} (data.width, data.height); crop or scale it first"
            )
