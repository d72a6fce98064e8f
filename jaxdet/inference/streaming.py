"""Inference on a live stream of events, step by step with small latency."""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdet.data.events import fit as fits
from jaxdet.data.events.filters import EventFilter, Filters
from jaxdet.data.events.fit import Fit
from jaxdet.data.events.sequences import SKIPPED
from jaxdet.data.events.streams import EventChunk, columns, concatenate
from jaxdet.inference import programs
from jaxdet.inference.events import StepBoxes
from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.structs import Boxes, EventGeometry, ReadReport

LATE, OVER_LIMIT = "events of steps that were over", "events beyond the limit of a step"
BEHIND, STEPS_BEHIND = "events of steps that were too late", "steps that were too late"
RESTARTS, ABANDONED = "restarts of the clock", "events before a restart of the clock"
RESTART_US = 1_000_000  # a packet that is older by this begins another recording
_LATENCIES = 12_000  # of the last steps, a minute of 5 ms


class Limits(NamedTuple):
    """Bounds that keep a live stream from falling behind; None: no bound."""

    max_events: int | None = None  # of a step, which keeps the newest
    max_delay_us: int | None = None  # steps that are further behind are skipped, the memory is kept
    max_gap_us: int | None = None  # longer silences are skipped, with a fresh memory


class StreamDetector:
    """A recurrent detector that is fed with events and yields boxes after every step; it has one lane.

    A step is compiled for each pattern of firing memories and each size of `event_sizes`, with the state
    donated. The smallest size that holds the step's events is used; for a larger burst the largest size is
    doubled until it fits, so that no event is lost. With `limits.max_events`, a step keeps its newest events
    up to that number instead, so that nothing is compiled after the first event.

    With `limits.max_delay_us`, steps that are further behind the newest event, or whose packet arrived longer
    ago, are skipped, all but the newest. The time from the arrival of a packet to the boxes of the steps that
    it ends is then at most this limit and the time of two steps, with the work on what arrives meanwhile.

    Steps start at `start_us`, or, if it is None, at the first event, rounded down to a step. `fit` maps the
    camera's pixels to the model's, by default each to itself. `report` counts the events that were left out.
    `clock` gives the time in seconds of which latencies are differences.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        variables: Variables,
        event_sizes: Sequence[int] = (1024, 4096, 16384),
        start_us: int | None = 0,
        class_names: Sequence[str] = (),
        fit: Fit | None = None,
        limits: Limits = Limits(),  # noqa: B008   (immutable)
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.skeleton, self._event_sizes = skeleton, sorted(event_sizes)
        if (most := limits.max_events) is not None:
            self._event_sizes = [*(size for size in self._event_sizes if size < most), most]
        self.limits, self.class_names, self.clock = limits, tuple(class_names), clock
        self.variables = jax.device_put(variables)
        backbone = functional.merge(skeleton, self.variables).backbone
        self._backbone_cycle, self._pattern = backbone.cycle, backbone.pattern
        self.geometry: EventGeometry = backbone.geometry
        self._columns = backbone.grid[1]
        self.table = functional.compiled(programs.event_table, skeleton)(self.variables)
        self.reset(start_us, fit=fit)

    def reset(
        self,
        start_us: int | None = 0,
        source: str = "",
        fit: Fit | None = None,
        filters: Filters = Filters(),  # noqa: B008   (immutable)
    ) -> None:
        """Start a new recording, named `source`, with its first step at `start_us`; the state is cleared.

        `fit` replaces that of the recording before; without one pixels are those of the model. `filters`
        leave out events of the camera.
        """
        size = self.geometry.size
        self.fit = fits.choose("none", size, size) if fit is None else fit
        self._pixels = self.fit.pixels()
        self._source, self.filters = source, filters
        self._passing = EventFilter(filters, self.fit.camera)
        self._begin(start_us)
        self._now_us: int | None = None
        self._waiting: list[EventChunk] = []
        self._arrivals: deque[tuple[int, float]] = deque()
        self.report = ReadReport()
        self.latencies: deque[float] = deque(maxlen=_LATENCIES)
        self.num_steps = self.num_events = 0  # that were processed
        self._busy_s = 0.0

    def _begin(self, start_us: int | None) -> None:
        merged = functional.merge(self.skeleton, self.variables)
        # Copies: the state is donated, and the initial latents are parameters.
        self._carry = jax.tree.map(jnp.array, merged.init_carry(1))
        self._steps, self._start_us = 0, start_us

    def compile(self, real_events: bool | None = None, num_lanes: int = 1) -> None:
        """Compile all steps before the first event, by default for the coordinates of this fit."""
        real_events = self.fit.real if real_events is None else real_events
        for phase in sorted({self._pattern(p) for p in range(self._backbone_cycle)}):
            for size in self._event_sizes:
                programs.step(self.skeleton, phase, size, real_events, num_lanes)

    @property
    def end_us(self) -> int | None:
        """End of the last step that was yielded, in the clock of the camera; None before the first event."""
        return None if self._start_us is None else self._start_us + self._steps * self.geometry.step_us

    @property
    def num_waiting(self) -> int:
        """Events that wait for the end of their step, or for their step to be taken."""
        return sum(len(events.t_us) for events in self._waiting)

    @property
    def steps_due(self) -> int:
        """Steps that have ended and wait to be taken."""
        if self._now_us is None or self.end_us is None:
            return 0
        return max((self._now_us - self.end_us) // self.geometry.step_us, 0)

    def feed(
        self, t_us: Any, x: Any, y: Any, polarity: Any, arrived: float | None = None
    ) -> Iterator[StepBoxes]:
        """Add events [N] and return an iterator of the boxes of the steps they complete.

        The events are taken in at once; steps that nobody takes from the iterator come from the next one.
        Times are in us and need no order within what is fed; the newest ends steps. Coordinates are pixels of
        the camera. Polarity is 0 or 1, or -1 or 1. Events outside the camera or the region, and events of a
        step that was already yielded, are left out and counted. `arrived` is the time of arrival by the
        clock, by default now. InputError for another polarity, or columns of unequal length.
        """
        now = self.clock() if arrived is None else arrived
        return self.feed_packets([(columns(t_us, x, y, polarity), now)])

    def feed_packets(self, packets: Iterable[tuple[EventChunk, float]]) -> Iterator[StepBoxes]:
        """As `feed`, for packets of any number of events with the times of their arrival."""
        joined: list[EventChunk] = []
        for packet, arrived in packets:
            if not len(packet.t_us):
                continue
            newest = int(packet.t_us.max())
            latest = self.end_us if self._now_us is None else self._now_us
            if latest is not None and newest < latest - RESTART_US:
                self._take_in(joined)
                self._restart()
                joined = []
            joined.append(packet)
            self._now_us = newest if self._now_us is None else max(self._now_us, newest)
            self._arrivals.append((self._now_us, arrived))
        self._take_in(joined)
        return self.due()

    def advance(self, now_us: int) -> Iterator[StepBoxes]:
        """Boxes of all steps that end at or before `now_us`, also of steps without events."""
        self._now_us = now_us if self._now_us is None else max(self._now_us, now_us)
        return self.due()

    def _take_in(self, packets: list[EventChunk]) -> None:
        if not packets:
            return
        events = columns(*concatenate(packets))
        if self._start_us is None:
            step_us = self.geometry.step_us
            self._start_us = int(events.t_us.min()) // step_us * step_us
        in_time = events.t_us >= self.end_us
        self.report.add(LATE, int((~in_time).sum()))
        events = events if in_time.all() else events.take(in_time)
        if not (events.t_us[1:] >= events.t_us[:-1]).all():
            events = events.take(np.argsort(events.t_us, kind="stable"))
        events = self._passing(self.fit.kept(events, self.report), self.report)
        if len(events.t_us):
            self._waiting.append(self.fit.upright(events))

    def _restart(self) -> None:
        """Begin another recording, as the clock of the camera did."""
        self.report.add(RESTARTS)
        self.report.add(ABANDONED, self.num_waiting)
        self._begin(None)
        self._passing = EventFilter(self.filters, self.fit.camera)
        self._now_us, self._waiting = None, []
        self._arrivals.clear()

    def _skip(self) -> None:
        """Leave out steps that are too late, and silences that are too long."""
        step_us, begin = self.geometry.step_us, self.end_us
        assert begin is not None
        gap_us = self.limits.max_gap_us
        first = min((int(events.t_us[0]) for events in self._waiting), default=None)
        if gap_us is not None and first is not None and first - begin > gap_us:
            self.report.add(SKIPPED)
            self._begin(first // step_us * step_us)
        if (late := self._num_late()) > 0:
            assert self._start_us is not None
            self._start_us += late * step_us
            num_before = self.num_waiting
            self._waiting = [events.take(events.t_us >= self.end_us) for events in self._waiting]
            self._waiting = [events for events in self._waiting if len(events.t_us)]
            self.report.add(STEPS_BEHIND, late)
            self.report.add(BEHIND, num_before - self.num_waiting)

    def _num_late(self) -> int:
        """Steps due that are further behind than the limit, by the events' clock or since their arrival."""
        delay_us, step_us = self.limits.max_delay_us, self.geometry.step_us
        if delay_us is None or self.end_us is None:
            return 0
        late = self.steps_due - max(delay_us // step_us, 1)
        overdue = bisect_left(self._arrivals, self.clock() - delay_us / 1e6, key=itemgetter(1))
        if overdue:  # every step that ended with these packets has waited for too long
            late = max(late, (self._arrivals[overdue - 1][0] - self.end_us) // step_us)
        return min(late, self.steps_due - 1)

    def due(self) -> Iterator[StepBoxes]:
        """Boxes of the steps that have ended; those that are not taken now come later."""
        while (events := self.next_events()) is not None:
            yield from run([self], [events])

    @property
    def state(self) -> Any:
        """The memory after the last step, which the next one is given for good."""
        return self._carry

    @property
    def phase(self) -> int:
        """The first phase of the cycle at which the memories of the next step fire."""
        return self._pattern(self._steps % self._backbone_cycle)

    def next_events(self) -> EventChunk | None:
        """Take the events of the next step that has ended, whose times count from its start; None: none has.

        `finish` must follow.
        """
        if self.steps_due:
            self._skip()
        if not self.steps_due:
            return None
        begin, step_us = self.end_us, self.geometry.step_us
        assert begin is not None
        parts = []
        for number, events in enumerate(self._waiting):
            cut = int(np.searchsorted(events.t_us, begin + step_us))
            parts.append(events.take(slice(0, cut)))
            self._waiting[number] = events.take(slice(cut, None))
        self._waiting = [events for events in self._waiting if len(events.t_us)]
        events = concatenate(parts)
        if len(parts) > 1:
            events = events.take(np.argsort(events.t_us, kind="stable"))
        most = self.limits.max_events
        if most is not None and len(events.t_us) > most:
            self.report.add(OVER_LIMIT, len(events.t_us) - most)
            events = events.take(slice(-most, None))
        return events._replace(t_us=events.t_us - begin)

    def finish(self, events: EventChunk, carry: Any, rows: np.ndarray, begin: float) -> StepBoxes:
        """Boxes of the step of these events, begun at `begin`, from its state and rows [D, 6]."""
        self._carry, done = carry, self.clock()
        rows = rows[rows[:, 5] >= 0]
        self._busy_s += done - begin
        self._steps, self.num_steps = self._steps + 1, self.num_steps + 1
        self.num_events += len(events.t_us)
        self._note_latency(done)
        of_step = Boxes(
            rows[:, :4],
            rows[:, 4],
            rows[:, 5].astype(np.int32),
            self.class_names,
            self._source,
            self.end_us,
            image_size=self.geometry.size,
        )
        seen = events.x, events.y, events.p
        return StepBoxes(self.fit.boxes(of_step), events=seen, seconds=done - begin)

    def latents(self) -> tuple[np.ndarray, ...]:
        """The latent of each memory after the last step, [h, w, C]."""
        return tuple(np.asarray(latent[0]) for latent in self._carry.latent)

    def statistics(self) -> dict[str, float]:
        """Numbers of the stream since the last reset.

        p50_ms and p99_ms are of the time from the arrival of the packet that ends a step to its boxes, over
        the last minute; real_time is the time that the steps cover in units of the time they took.
        """
        latencies = np.asarray(self.latencies or [np.nan]) * 1e3
        covered_s = self.num_steps * self.geometry.step_us / 1e6
        return {
            "steps": self.num_steps,
            "events": self.num_events,
            "p50_ms": float(np.percentile(latencies, 50)),
            "p99_ms": float(np.percentile(latencies, 99)),
            "waiting_events": self.num_waiting,
            "waiting_steps": self.steps_due,
            "real_time": covered_s / self._busy_s if self._busy_s else 0.0,
            **dict(sorted(self.report.counts.items())),
        }

    def _note_latency(self, done: float) -> None:
        """Keep the time from the arrival of the packet that ended the step to its boxes."""
        assert self.end_us is not None
        while self._arrivals and self._arrivals[0][0] < self.end_us:
            self._arrivals.popleft()
        if self._arrivals:
            self.latencies.append(done - self._arrivals[0][1])

    def size_for(self, events: EventChunk) -> int:
        """Events that the program of a step with these has room for."""
        count = len(events.t_us)
        size = next((s for s in self._event_sizes if s >= count), self._event_sizes[-1])
        while size < count:
            size *= 2
        return size

    def pack(self, events: EventChunk, packed: Any, lane: int) -> None:
        """Put the events of a step, sorted by window, into a lane of `programs.no_events` or its like."""
        window = self.geometry.window
        x, y = self._pixels.x[events.x], self._pixels.y[events.y]
        cell = (y // window).astype(np.int64) * self._columns + (x // window).astype(np.int64)
        order = np.argsort(cell, kind="stable")
        count = len(order)
        if self.fit.real:
            packed.xy[lane, :count, 0], packed.xy[lane, :count, 1] = x[order], y[order]
            packed.t_us[lane, :count], packed.polarity[lane, :count] = events.t_us[order], events.p[order]
            packed.step_start[lane, 1] = count
            return
        packed[lane, 0, 1] = count
        x, y = x.astype(np.int32), y.astype(np.int32)
        packed[lane, 1 : count + 1, 0] = (y << programs.HIGH | x)[order]
        packed[lane, 1 : count + 1, 1] = (events.t_us.astype(np.int32) << 1 | events.p)[order]


def run(lanes: Sequence[StreamDetector], events: Sequence[EventChunk]) -> list[StepBoxes]:
    """Boxes after one step of detectors of one skeleton and its variables, in one call.

    `events` are those of each, from `next_events`; all are at the same phase, with coordinates of one kind.
    """
    first, num_lanes = lanes[0], len(lanes)
    size, real = max(first.size_for(of_lane) for of_lane in events), first.fit.real
    step = programs.step(first.skeleton, first.phase, size, real, num_lanes)
    begin = first.clock()
    packed = programs.no_real_events(size, num_lanes) if real else programs.no_events(size, num_lanes)
    for number, (lane, of_lane) in enumerate(zip(lanes, events, strict=True)):
        lane.pack(of_lane, packed, number)
    found, carries = step(first.variables, first.table, tuple(lane.state for lane in lanes), packed)
    steps = zip(lanes, events, carries, jax.device_get(found), strict=True)
    return [lane.finish(of_lane, carry, rows, begin) for lane, of_lane, carry, rows in steps]
