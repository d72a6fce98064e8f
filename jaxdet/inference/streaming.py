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
from jaxdet.structs import Boxes, EventGeometry, Events

# Released speed tests leave out the first 43 steps of a recording.
WARM_UP_STEPS = 43

_HIGH = 16  # bits below the row of an event in its first word


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
        rows = jax.device_get(found)
        seconds = time.perf_counter() - begin
        rows = rows[rows[:, 5] >= 0]
        self._steps += 1
        end_us = self._start_us + self._steps * self.geometry.step_us
        of_step = Boxes(
            rows[:, :4],
            rows[:, 4],
            rows[:, 5].astype(np.int32),
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

    def _pack(self, t_us, x, y, polarity, size: int) -> np.ndarray:
        """Events of one step and lane as `stream_step` takes them, sorted by window."""
        window = self.geometry.window
        cell = y // window * self._columns + x // window
        order = np.argsort(cell, kind="stable")
        count = len(order)
        events = no_events(size)
        events[0, 1] = count
        events[1 : count + 1, 0] = (y << _HIGH | x)[order]
        events[1 : count + 1, 1] = (t_us << 1 | polarity)[order]
        return events


def event_table(skeleton: Skeleton, variables: Variables) -> jax.Array:
    """The table of keys and values that `stream_step` reads."""
    return functional.merge(skeleton, variables).backbone.event_table()


def no_events(size: int) -> np.ndarray:
    """A step without events, padded to `size`: int32 [size + 1, 2], which takes one transfer.

    The first row is where the step's events start and end among them: 0 and their number. The row of an event
    holds y in the high and x in the low half of its first word, and the time since the step began, times two,
    plus the polarity in its second.
    """
    return np.zeros((size + 1, 2), np.int32)


def _unpacked(packed: jax.Array) -> Events:
    """The events of `no_events` with their one lane."""
    place, rest = packed[None, 1:, 0], packed[None, 1:, 1]
    xy = jnp.stack([place & (1 << _HIGH) - 1, place >> _HIGH], -1).astype(jnp.float32)
    return Events(xy, (rest >> 1).astype(jnp.int16), (rest & 1).astype(jnp.int8), packed[:1])


def stream_step(
    skeleton: Skeleton, phase: int, variables: Variables, table: jax.Array, carry: Any, events: jax.Array
) -> tuple[jax.Array, Any]:
    """Boxes after a step of one lane as rows [D, 6], and its state; `phase` is static.

    `events` are laid out as in `no_events`. A row is x0, y0, x1, y1, score, label; no box has the label -1.
    """
    model = functional.merge(skeleton, variables)
    at_step, reset = jnp.zeros((1, 1), jnp.int32), jnp.zeros(1, bool)
    out = model.backbone(
        _unpacked(events), at_step, reset, carry, start_phase=phase, table=table, event_sizes=()
    )
    found = model.detect(out.features, out.valid)
    label = jnp.where(found.det_mask, found.labels, -1).astype(found.boxes.dtype)
    return jnp.concatenate([found.boxes, found.scores[..., None], label[..., None]], -1)[0, 0], out.carry


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
