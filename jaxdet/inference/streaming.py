"""Inference on a live stream of events, step by step with small latency."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdet.errors import InputError
from jaxdet.inference.events import StepBoxes
from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.structs import Boxes, Detections, EventGeometry, Events

# Released speed tests leave out the first 43 steps of a recording.
WARM_UP_STEPS = 43


class StreamDetector:
    """A recurrent detector that is fed with events and yields boxes after every step; it has one lane.

    A step is compiled for each pattern of firing memories and each size of `event_sizes`, with the state
    donated. The smallest size that holds the step's events is used; for a larger burst the largest size is
    doubled until it fits, so that no event is lost. Steps start at `start_us`.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        variables: Variables,
        event_sizes: Sequence[int] = (1024, 4096, 16384),
        start_us: int = 0,
        class_names: Sequence[str] = (),
    ):
        self._skeleton, self._event_sizes = skeleton, sorted(event_sizes)
        self._class_names = tuple(class_names)
        self._variables = jax.device_put(variables)
        backbone = functional.merge(skeleton, self._variables).backbone
        self._backbone_cycle, self._pattern = backbone.cycle, backbone.pattern
        self.geometry: EventGeometry = backbone.geometry
        self._columns = backbone.grid[1]
        self._table = functional.compiled(event_table, skeleton)(self._variables)
        self._compiled: dict[tuple[int, int], jax.stages.Compiled] = {}
        self.reset(start_us)

    def reset(self, start_us: int = 0, source: str = "") -> None:
        """Start a new recording, named `source`, with its first step at `start_us`; the state is cleared."""
        merged = functional.merge(self._skeleton, self._variables)
        # Copies: the state is donated, and the initial latents are parameters.
        self._carry = jax.tree.map(jnp.array, merged.init_carry(1))
        self._steps, self._start_us, self._source = 0, start_us, source
        self._waiting = [np.zeros((0, 4), np.int64)]

    def compile(self) -> None:
        """Compile all steps before the first event."""
        for phase in sorted({self._pattern(p) for p in range(self._backbone_cycle)}):
            for size in self._event_sizes:
                self._executable(phase, size)

    def feed(
        self, t_us: np.ndarray, x: np.ndarray, y: np.ndarray, polarity: np.ndarray
    ) -> Iterator[StepBoxes]:
        """Add events [N] in order of time and yield the boxes of the steps they complete.

        Times are in us, coordinates in pixels, polarity is 0 or 1. Raises InputError for events that are out
        of order, that belong to a completed step, or that lie outside the sensor.
        """
        rows = np.stack([np.asarray(a, np.int64) for a in (t_us, x, y, polarity)], -1)
        if not len(rows):
            return
        end_us = self._start_us + self._steps * self.geometry.step_us
        if rows[0, 0] < end_us or (np.diff(rows[:, 0]) < 0).any():
            raise InputError(
                f"events at {rows[:, 0].min()} us are out of order or before {end_us} us, the start of the "
                "current step; sort them by time"
            )
        self._waiting.append(rows)
        yield from self.advance(int(rows[-1, 0]))

    def advance(self, now_us: int) -> Iterator[StepBoxes]:
        """Boxes of all steps that end at or before `now_us`, also of steps without events."""
        step_us = self.geometry.step_us
        while self._start_us + (self._steps + 1) * step_us <= now_us:
            rows = np.concatenate(self._waiting)
            begin = self._start_us + self._steps * step_us
            cut = np.searchsorted(rows[:, 0], begin + step_us)
            self._waiting = [rows[cut:]]
            t, x, y, polarity = rows[:cut].T
            yield self.step(t - begin, x, y, polarity)

    def step(self, t_us: np.ndarray, x: np.ndarray, y: np.ndarray, polarity: np.ndarray) -> StepBoxes:
        """Boxes after one step with these events; `t_us` [N] counts from the start of the step.

        Raises InputError for events outside the sensor.
        """
        height, width = self.geometry.size
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        if not inside.all():
            raise InputError(
                f"{(~inside).sum()} events outside {width}x{height} pixels, the sensor of the model; "
                "leave them out"
            )
        phase = self._pattern(self._steps % self._backbone_cycle)
        size = self._size(len(t_us))
        run = self._executable(phase, size)
        begin = time.perf_counter()
        events = self._pack(t_us, x, y, polarity, size)
        found, self._carry = run(self._variables, self._table, self._carry, events)
        boxes, scores, labels, mask = (a[0, 0] for a in jax.device_get(found))
        seconds = time.perf_counter() - begin
        self._steps += 1
        end_us = self._start_us + self._steps * self.geometry.step_us
        of_step = Boxes(
            boxes[mask],
            scores[mask],
            labels[mask],
            self._class_names,
            self._source,
            end_us,
            image_size=self.geometry.size,
        )
        return StepBoxes(of_step, seconds=seconds)

    def _size(self, count: int) -> int:
        size = next((s for s in self._event_sizes if s >= count), self._event_sizes[-1])
        while size < count:
            size *= 2
        return size

    def _executable(self, phase: int, size: int) -> jax.stages.Compiled:
        if (phase, size) not in self._compiled:
            events = no_events(size)
            jitted: Any = functional.compiled(stream_step, self._skeleton, phase, donate=(2,))
            lowered = jitted.lower(self._variables, self._table, self._carry, events)
            self._compiled[phase, size] = lowered.compile()
        return self._compiled[phase, size]

    def _pack(self, t_us, x, y, polarity, size: int) -> Events:
        """Events of one step and lane, sorted by window and padded to `size`."""
        window = self.geometry.window
        cell = y // window * self._columns + x // window
        order = np.argsort(cell, kind="stable")
        count = len(order)
        events = no_events(size)
        events.xy[0, :count, 0], events.xy[0, :count, 1] = x[order], y[order]
        events.t_us[0, :count], events.polarity[0, :count] = t_us[order], polarity[order]
        events.step_start[0, 1] = count
        return events


def event_table(skeleton: Skeleton, variables: Variables) -> jax.Array:
    """The table of keys and values that `stream_step` reads."""
    return functional.merge(skeleton, variables).backbone.event_table()


def no_events(size: int) -> Events:
    """A step without events, padded to `size`."""
    return Events(
        np.zeros((1, size, 2), np.float32),
        np.zeros((1, size), np.int16),
        np.zeros((1, size), np.int8),
        np.zeros((1, 2), np.int32),
    )


def stream_step(
    skeleton: Skeleton, phase: int, variables: Variables, table: jax.Array, carry: Any, events: Events
) -> tuple[Detections, Any]:
    """Boxes after a step of one lane, and its state; `phase` is static."""
    model = functional.merge(skeleton, variables)
    at_step, reset = jnp.zeros((1, 1), jnp.int32), jnp.zeros(1, bool)
    out = model.backbone(events, at_step, reset, carry, start_phase=phase, table=table, event_sizes=())
    return model.detect(out.features, out.valid), out.carry


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
