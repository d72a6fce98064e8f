"""Batches of consecutive segments of whole recordings or of live events, in bounded memory.

A lane reads one sequence after the other; `reset` is true on a sequence's first segment. This is test-time
input: there is no augmentation and no jitter, and step k of a sequence ends at (k + 1) * step_us.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import count, pairwise
from typing import Any, NamedTuple

import numpy as np

from jaxdet.data.events import augment, packing
from jaxdet.data.events.augment import PixelMap
from jaxdet.data.events.streams import EventChunk, concatenate
from jaxdet.errors import InputError
from jaxdet.structs import Batch, ReadReport

# (number of the sequence, end times of a segment's steps int64 [T]) -> the steps to report, bool [T]
Wanted = Callable[[int, np.ndarray], np.ndarray]
SKIPPED = "silences, with a reset of the memory"


class Segment(NamedTuple):
    """Events of one segment of a sequence."""

    start_us: int
    num_steps: int  # fewer than a whole segment at the sequence's end and before a silence that is skipped
    events: EventChunk
    reset: bool = False  # True: the memory forgets what was before; so it does on a sequence's first segment


def of_recording(recording: Any, segment_us: int, step_us: int) -> Iterator[Segment]:
    """Segments of a prepared recording, read as they are needed; they cover its whole duration.

    Times count from the start of the recording.
    """
    duration_us = 1000 * int(recording.duration_ms)
    for start in range(0, duration_us, segment_us):
        stop = min(start + segment_us, duration_us)
        raw = recording.events(start // 1000, -(-stop // 1000))
        yield Segment(start, -(-(stop - start) // step_us), raw)


def of_chunks(
    chunks: Iterable[Any],
    segment_us: int,
    step_us: int,
    origin_us: int | None = None,
    max_gap_us: int | None = None,
    report: ReadReport | None = None,
) -> Iterator[Segment]:
    """Segments of a stream of chunks (t_us, x, y, p) in order of time.

    The first segment begins at `origin_us`, by default at the first event, rounded down to a step of the
    clock, whatever the clock says; times stay those of the clock. A segment is yielded as soon as an event
    after it arrives; the last one ends with the step of the last event. Silence is kept, as empty steps, but
    for silences longer than `max_gap_us`: the recording goes on at the next event with a fresh memory, and
    `report` counts them. Raises InputError when time runs backwards.
    """
    held: list[EventChunk] = []
    start, newest, reset = None, 0, False
    for raw, fresh in _without_gaps(_in_order(chunks), max_gap_us, step_us, report):
        if start is None or fresh:
            if held:
                yield Segment(start or 0, (newest - (start or 0)) // step_us + 1, concatenate(held), reset)
            held, reset = [], fresh
            first = int(raw.t_us[0]) // step_us * step_us
            start = first if origin_us is None or fresh else origin_us
        newest = int(raw.t_us[-1])
        while newest >= start + segment_us:
            cut = int(np.searchsorted(raw.t_us, start + segment_us))
            held.append(raw.take(slice(0, cut)))
            raw = raw.take(slice(cut, None))
            yield Segment(start, segment_us // step_us, concatenate(held), reset)
            held, reset = [], False
            start += segment_us
        held.append(raw)
    if start is not None:
        yield Segment(start, (newest - start) // step_us + 1, concatenate(held), reset)


def _in_order(chunks: Iterable[Any]) -> Iterator[EventChunk]:
    """The chunks that hold events; InputError when time runs backwards."""
    newest = None
    for chunk in chunks:
        raw = EventChunk(*chunk)
        if not len(raw.t_us):
            continue
        first = int(raw.t_us[0])
        if (newest is not None and first < newest) or (np.diff(raw.t_us) < 0).any():
            raise InputError(
                f"events after {first if newest is None else max(newest, first)} us: time runs backwards, "
                "expected events in order of time; prepare the recording first, which sorts it"
            )
        newest = int(raw.t_us[-1])
        yield raw


def _without_gaps(
    chunks: Iterable[EventChunk], max_gap_us: int | None, step_us: int, report: ReadReport | None
) -> Iterator[tuple[EventChunk, bool]]:
    """Chunks, cut where no event comes for longer than `max_gap_us`, and True for those after such a silence.

    Raises InputError for a gap shorter than a step.
    """
    if max_gap_us is None:
        yield from ((chunk, False) for chunk in chunks)
        return
    if max_gap_us < step_us:
        raise InputError(f"a largest gap of {max_gap_us} us, expected at least a step of {step_us} us")
    newest = None
    for chunk in chunks:
        before = chunk.t_us[0] if newest is None else newest
        gaps = np.diff(chunk.t_us, prepend=before)
        cuts = np.flatnonzero(gaps > max_gap_us).tolist()
        for cut in cuts:
            if report is not None:
                where = f"{gaps[cut] / 1e6:.3f} s before {chunk.t_us[cut]} us"
                report.add(SKIPPED, where=where)
        edges = [0, *(cut for cut in cuts if cut), len(chunk.t_us)]
        for low, high in pairwise(edges):
            yield chunk.take(slice(low, high)), low in cuts
        newest = int(chunk.t_us[-1])


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
    lane without a further sequence stays empty, without slots. `pixels` maps the events of a camera to the
    model's sensor, by default of `size` (height, width) to itself. Raises InputError for events outside the
    camera.
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
        pixels: PixelMap | None = None,
    ):
        if segment_us % step_us:
            raise InputError(f"segment of {segment_us} us, expected a multiple of the step of {step_us} us")
        self.lost_events = 0
        self._num_steps = segment_us // step_us
        self._step_us = step_us
        self._pixels = augment.pixel_map(augment.identity(*size)) if pixels is None else pixels
        self._size = (len(self._pixels.y), len(self._pixels.x))
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
            batch.reset[lane] = first or segment.reset
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
                f"the config's {size[1]}x{size[0]} (data.width, data.height); give --fit to predict"
            )
