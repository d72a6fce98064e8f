"""Inference on a live stream of events, step by step with small latency."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdet.data.events import fit as fits
from jaxdet.data.events.fit import Fit
from jaxdet.data.events.streams import EventChunk, concatenate
from jaxdet.errors import InputError
from jaxdet.inference.events import StepBoxes
from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.structs import Boxes, EventGeometry, Events, ReadReport

# Released speed tests leave out the first 43 steps of a recording.
WARM_UP_STEPS = 43
LATE, OVER_LIMIT = "events of steps that were over", "events beyond the limit of a step"
_LATENCIES = 12_000  # of the last steps, a minute of 5 ms


class StreamDetector:
    """A recurrent detector that is fed with events and yields boxes after every step; it has one lane.

    A step is compiled for each pattern of firing memories and each size of `event_sizes`, with the state
    donated. The smallest size that holds the step's events is used; for a larger burst the largest size is
    doubled until it fits, so that no event is lost. With `max_events`, a step keeps its newest events up to
    that number instead, so that nothing is compiled after the first event.

    Steps start at `start_us`, or, if it is None, at the first event, rounded down to a step. `fit` maps the
    camera's pixels to the model's, by default each to itself. `report` counts the events that were left out.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        variables: Variables,
        event_sizes: Sequence[int] = (1024, 4096, 16384),
        start_us: int | None = 0,
        class_names: Sequence[str] = (),
        fit: Fit | None = None,
        max_events: int | None = None,
    ):
        self._skeleton, self._event_sizes = skeleton, sorted(event_sizes)
        if max_events is not None:
            self._event_sizes = [*(size for size in self._event_sizes if size < max_events), max_events]
        self._max_events, self._class_names = max_events, tuple(class_names)
        self._variables = jax.device_put(variables)
        backbone = functional.merge(skeleton, self._variables).backbone
        self._backbone_cycle, self._pattern = backbone.cycle, backbone.pattern
        self.geometry: EventGeometry = backbone.geometry
        self._columns = backbone.grid[1]
        self._table = functional.compiled(_event_table, skeleton)(self._variables)
        self.reset(start_us, fit=fit)

    def reset(self, start_us: int | None = 0, source: str = "", fit: Fit | None = None) -> None:
        """Start a new recording, named `source`, with its first step at `start_us`; the state is cleared.

        `fit` replaces that of the recording before; without one pixels are those of the model.
        """
        size = self.geometry.size
        self.fit = fits.choose("none", size, size) if fit is None else fit
        self._pixels = self.fit.pixels()
        merged = functional.merge(self._skeleton, self._variables)
        # Copies: the state is donated, and the initial latents are parameters.
        self._carry = jax.tree.map(jnp.array, merged.init_carry(1))
        self._steps, self._start_us, self._source = 0, start_us, source
        self._now_us: int | None = None
        self._waiting: list[EventChunk] = []
        self._arrivals: deque[tuple[int, float]] = deque()
        self.report = ReadReport()
        self.latencies: deque[float] = deque(maxlen=_LATENCIES)

    def compile(self) -> None:
        """Compile all steps before the first event."""
        for phase in sorted({self._pattern(p) for p in range(self._backbone_cycle)}):
            for size in self._event_sizes:
                _program(self._skeleton, phase, size, self.fit.real)

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

    def feed(self, t_us: Any, x: Any, y: Any, polarity: Any) -> Iterator[StepBoxes]:
        """Add events [N] and return an iterator of the boxes of the steps they complete.

        The events are taken in at once; steps that nobody takes from the iterator come from the next one.
        Times are in us and need no order within what is fed; the newest ends steps. Coordinates are pixels of
        the camera. Polarity is 0 or 1, or -1 or 1. Events outside the camera or the region, and events of a
        step that was already yielded, are left out and counted. InputError for another polarity, or columns
        of unequal length.
        """
        events = _columns(t_us, x, y, polarity)
        if len(events.t_us):
            newest = int(events.t_us.max())
            self._take_in(events)
            self._arrivals.append((newest, time.perf_counter()))
            self._now_us = newest if self._now_us is None else max(self._now_us, newest)
        return self._due()

    def advance(self, now_us: int) -> Iterator[StepBoxes]:
        """Boxes of all steps that end at or before `now_us`, also of steps without events."""
        self._now_us = now_us if self._now_us is None else max(self._now_us, now_us)
        return self._due()

    def _take_in(self, events: EventChunk) -> None:
        if self._start_us is None:
            step_us = self.geometry.step_us
            self._start_us = int(events.t_us.min()) // step_us * step_us
        in_time = events.t_us >= self.end_us
        self.report.add(LATE, int((~in_time).sum()))
        events = events if in_time.all() else events.take(in_time)
        if not (events.t_us[1:] >= events.t_us[:-1]).all():
            events = events.take(np.argsort(events.t_us, kind="stable"))
        self._waiting.append(self.fit.kept(events, self.report))

    def _due(self) -> Iterator[StepBoxes]:
        while self.steps_due:
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
            yield self._step(events._replace(t_us=events.t_us - begin))

    def _step(self, events: EventChunk) -> StepBoxes:
        """Boxes after one step with these events, whose times count from the start of the step."""
        if self._max_events is not None and len(events.t_us) > self._max_events:
            self.report.add(OVER_LIMIT, len(events.t_us) - self._max_events)
            events = events.take(slice(-self._max_events, None))
        phase = self._pattern(self._steps % self._backbone_cycle)
        size = self._size(len(events.t_us))
        run = _program(self._skeleton, phase, size, self.fit.real)
        begin = time.perf_counter()
        packed = self._pack(events, size)
        found, self._carry = run(self._variables, self._table, self._carry, packed)
        boxes, scores, labels, mask = (a[0, 0] for a in jax.device_get(found))
        done = time.perf_counter()
        self._steps += 1
        self._note_latency(done)
        of_step = Boxes(
            boxes[mask],
            scores[mask],
            labels[mask],
            self._class_names,
            self._source,
            self.end_us,
            image_size=self.geometry.size,
        )
        return StepBoxes(self.fit.boxes(of_step), seconds=done - begin)

    def _note_latency(self, done: float) -> None:
        """Keep the time from the arrival of the packet that ended the step to its boxes."""
        assert self.end_us is not None
        while self._arrivals and self._arrivals[0][0] < self.end_us:
            self._arrivals.popleft()
        if self._arrivals:
            self.latencies.append(done - self._arrivals[0][1])

    def _size(self, count: int) -> int:
        size = next((s for s in self._event_sizes if s >= count), self._event_sizes[-1])
        while size < count:
            size *= 2
        return size

    def _pack(self, events: EventChunk, size: int) -> Events:
        """Events of one step and lane on the model's sensor, sorted by window and padded to `size`."""
        window = self.geometry.window
        x, y = self._pixels.x[events.x], self._pixels.y[events.y]
        cell = (y // window).astype(np.int64) * self._columns + (x // window).astype(np.int64)
        order = np.argsort(cell, kind="stable")
        count = len(order)
        xy = np.zeros((1, size, 2), np.float32)
        xy[0, :count, 0], xy[0, :count, 1] = x[order], y[order]
        times, signs = np.zeros((1, size), np.int16), np.zeros((1, size), np.int8)
        times[0, :count], signs[0, :count] = events.t_us[order], events.p[order]
        return Events(xy, times, signs, np.array([[0, count]], np.int32))


def _event_table(skeleton, variables):
    return functional.merge(skeleton, variables).backbone.event_table()


@lru_cache(maxsize=256)
def _program(skeleton: Skeleton, phase: int, size: int, real_events: bool) -> jax.stages.Compiled:
    """One step of one lane with room for `size` events; streams of equal detectors share it."""
    variables = functional.shapes(skeleton)
    table = jax.eval_shape(partial(_event_table, skeleton), variables)
    carry = jax.eval_shape(lambda v: functional.merge(skeleton, v).init_carry(1), variables)
    shape = jax.ShapeDtypeStruct
    events = Events(
        shape((1, size, 2), np.float32),
        shape((1, size), np.int16),
        shape((1, size), np.int8),
        shape((1, 2), np.int32),
    )

    def run(variables, table, carry, events):
        model = functional.merge(skeleton, variables)
        at_step, reset = jnp.zeros((1, 1), jnp.int32), jnp.zeros(1, bool)
        options = {"integer_events": False} if real_events else {"table": table}
        out = model.backbone(events, at_step, reset, carry, start_phase=phase, event_sizes=(), **options)
        return model.detect(out.features, out.valid), out.carry

    return jax.jit(run, donate_argnums=2).lower(variables, table, carry, events).compile()


def _columns(t_us: Any, x: Any, y: Any, polarity: Any) -> EventChunk:
    """Events [N] from columns of any integer type; polarity -1 becomes 0."""
    columns = [np.asarray(column) for column in (t_us, x, y, polarity)]
    if len({column.shape for column in columns}) != 1 or columns[0].ndim != 1:
        shapes = ", ".join(str(column.shape) for column in columns)
        raise InputError(f"columns of shapes {shapes}; expected t_us, x, y and polarity of one length")
    times, x, y, signs = columns
    if signs.dtype == bool:
        signs = signs.astype(np.int8)
    low, high = (signs.min(), signs.max()) if len(signs) else (0, 0)
    if low < -1 or high > 1 or (low == -1 and (signs == 0).any()):
        raise InputError(f"polarity from {low} to {high}; expected 0 and 1, or -1 and 1")
    return EventChunk(
        times.astype(np.int64), x.astype(np.int64), y.astype(np.int64), (signs > 0).astype(np.int8)
    )


def latency(frames_seconds: Sequence[float], skip: int = WARM_UP_STEPS) -> dict[str, float]:
    """Mean, p50, p99, min and max in ms of the times of steps, in s, after the first `skip`.

    Raises InputError if there are no more than `skip` steps.
    """
    steps = np.asarray(frames_seconds)[skip:] * 1e3
    if not len(steps):
        raise InputError(
            f"{len(frames_seconds)} steps timed, expected more than {skip}, which are left out; "
            "use a longer recording"
        )
    p50, p99 = np.percentile(steps, [50, 99])
    return {"mean": steps.mean(), "p50": p50, "p99": p99, "min": steps.min(), "max": steps.max()}
