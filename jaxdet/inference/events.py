"""Inference on streams of segments: boxes after every step, or only at the steps that a protocol uses.

Backbone and head are two compiled functions. The backbone carries its state through a segment of steps and
keeps the features of the requested steps; neck and head then run on `head_batch` of those at a time, so their
memory does not grow with the segment.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.structs import Batch, Boxes, EventGeometry


class StepBoxes(NamedTuple):
    """Boxes after one step of a recording, best first, with its events for drawing and its time."""

    boxes: Boxes  # `time_us` is the end of the step, `source` the recording
    sequence: int = 0  # number of the recording in its stream
    events: tuple[np.ndarray, ...] = ()  # x, y, polarity of the step's events; () if not kept
    seconds: float | None = None  # from the upload of the step's events to its boxes; None if not timed


class _Segment(NamedTuple):
    """Features of the slots of one segment, on the device, and the row of each step in them."""

    batch: Batch
    features: list[Any]  # [B * K, h, w, C] per level
    valid: Any  # bool [B * K]
    slots: dict[tuple[int, int], int]  # (sequence, t_us) -> row of the features


class Predictor:
    """A detector with `num_lanes` lanes, each of which processes one recording at a time.

    `variables` stay on the device; segments must be whole firing cycles; neck and head run on `head_batch`
    steps at once. With `reset_memory` latents and messages are reset at every step, so that the boxes of a
    step come from its own events alone, to measure the effect of the memory. `class_names` are those of the
    boxes.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        variables: Variables,
        num_lanes: int = 1,
        head_batch: int = 1,
        reset_memory: bool = False,
        class_names: Sequence[str] = (),
    ):
        self.num_lanes, self._head_batch = num_lanes, head_batch
        self.class_names = tuple(class_names)
        backbone = functional.merge(skeleton, variables).backbone
        self.cycle: int = backbone.cycle
        self.geometry: EventGeometry = backbone.geometry
        self._variables = jax.device_put(variables)
        advance = _advance_without_memory if reset_memory else _advance
        self._advance = functional.compiled(advance, skeleton, donate=(1,))
        self._detect = functional.compiled(_detect, skeleton)
        self._init_carry = functional.compiled(_init_carry, skeleton, num_lanes)

    def every_slot(self, batches: Iterable[Batch], sources: Sequence[str]) -> Iterator[StepBoxes]:
        """Boxes at every slot in use, in order of time per lane; `sources` are the names of recordings."""
        waiting: Callable[[], Iterator[StepBoxes]] = lambda: iter(())  # noqa: E731
        for segment in self._segments(batches):
            names = sorted(segment.slots.items(), key=lambda item: item[1])
            found = self._start(segment, segment, [(False, row) for _, row in names])
            # The results of the segment before are fetched while this one runs.
            yield from waiting()
            waiting = partial(self._finish, segment, [name for name, _ in names], found, sources)
        yield from waiting()

    def first_hits(
        self,
        batches: Iterable[Batch],
        sources: Sequence[str],
        requested: Iterable[tuple[int, Sequence[int]]],
        counts: Callable[[Boxes], bool],
    ) -> Iterator[StepBoxes]:
        """Boxes of the steps of each request, tried in turn up to the first whose boxes satisfy `counts`.

        A request is (sequence, end times of steps in us, best first); its steps lie in at most two
        neighbouring segments. A step that is in several requests is yielded once.
        """
        due: dict[tuple[int, int], list[tuple[int, Sequence[int]]]] = {}
        for sequence, times in requested:
            if len(times):
                due.setdefault((sequence, max(times)), []).append((sequence, times))
        known: dict[tuple[int, int], bool] = {}
        last: _Segment | None = None
        for segment in self._segments(batches):
            open_requests = [(*request, 0) for name in segment.slots for request in due.pop(name, ())]
            while open_requests:
                asked = {(sequence, times[rank]) for sequence, times, rank in open_requests} - known.keys()
                names = sorted(asked)
                for name, step in zip(names, self._steps_of(last or segment, segment, names, sources)):
                    known[name] = counts(step.boxes)
                    yield step
                open_requests = [
                    (sequence, times, rank + 1)
                    for sequence, times, rank in open_requests
                    if not known[sequence, times[rank]] and rank + 1 < len(times)
                ]
            last = segment

    def _segments(self, batches: Iterable[Batch]) -> Iterator[_Segment]:
        carry = self._init_carry(self._variables)
        for batch in batches:
            mask, source = batch.targets.slot_mask, batch.source
            at_step = np.where(mask, batch.targets.at_step, -1).astype(np.int32)
            features, valid, carry = self._advance(self._variables, carry, batch.inputs, at_step, batch.reset)
            rows = np.flatnonzero(mask)
            names = source.reshape(-1, 2)[rows].tolist()
            slots = {(sequence, t_us): int(row) for (sequence, t_us), row in zip(names, rows)}
            yield _Segment(batch, features, valid, slots)

    def _steps_of(self, last: _Segment, now: _Segment, names, sources) -> Iterator[StepBoxes]:
        rows = [(False, now.slots[name]) if name in now.slots else (True, last.slots[name]) for name in names]
        found = self._start(last, now, rows)
        return self._finish(now, names, found, sources)

    def _start(self, last: _Segment, now: _Segment, rows: list[tuple[bool, int]]) -> list[Any]:
        """Start neck and head on rows, `head_batch` at a time; a row is (is of the last segment, index)."""
        found = []
        for first in range(0, len(rows), self._head_batch):
            part = rows[first : first + self._head_batch]
            part = part + part[:1] * (self._head_batch - len(part))
            of_last, index = (np.array(column) for column in zip(*part))
            arguments = (last.features, last.valid, now.features, now.valid)
            found.append(self._detect(self._variables, *arguments, of_last, index.astype(np.int32)))
        return found

    def _finish(self, segment: _Segment, names, found, sources) -> Iterator[StepBoxes]:
        """Fetch the results of `_start` as boxes."""
        for i, (sequence, t_us) in enumerate(names):
            group, row = divmod(i, self._head_batch)
            if row == 0:
                boxes, scores, labels, mask = (a[:, 0] for a in jax.device_get(found[group]))
            real = mask[row]
            of_step = Boxes(
                boxes[row][real],
                scores[row][real],
                labels[row][real],
                self.class_names,
                sources[sequence],
                t_us,
                image_size=self.geometry.size,
            )
            yield StepBoxes(of_step, sequence, _events_of(segment, (sequence, t_us)))


def _init_carry(skeleton, num_lanes, variables):
    return functional.merge(skeleton, variables).init_carry(num_lanes)


def _advance(skeleton, variables, carry, inputs, at_step, reset):
    # Steps without events must not depend on other lanes: boxes are those of the recording alone.
    backbone = functional.merge(skeleton, variables).backbone
    out = backbone(inputs, at_step, reset, carry, False, empty_step_per_lane=True)
    return out.features, out.valid.reshape(-1), out.carry


def _advance_without_memory(skeleton, variables, carry, inputs, at_step, reset):
    """As `_advance`, but latents and messages are reset before every step."""
    backbone = functional.merge(skeleton, variables).backbone
    fresh = backbone.init_carry(reset.shape[0])

    def one_step(carry, step, phase):
        carry = carry._replace(latent=fresh.latent, message=fresh.message)
        one = inputs._replace(step_start=lax.dynamic_slice_in_dim(inputs.step_start, step, 2, 1))
        slots = jnp.where(at_step == step, 0, -1)
        return backbone(one, slots, reset & (step == 0), carry, False, phase, empty_step_per_lane=True)

    def one_cycle(state, first):
        carry, features, valid = state
        for phase in range(backbone.cycle):
            out = one_step(carry, first + phase, phase)
            features = [a + b for a, b in zip(features, out.features)]
            carry, valid = out.carry, valid | out.valid.reshape(-1)
        return (carry, features, valid), None

    shapes = jax.eval_shape(lambda: one_step(carry, jnp.asarray(0), 0).features)
    features = [jnp.zeros(a.shape, a.dtype) for a in shapes]
    num_cycles = (inputs.step_start.shape[1] - 1) // backbone.cycle
    state = carry, features, jnp.zeros(at_step.size, bool)
    (carry, features, valid), _ = lax.scan(one_cycle, state, jnp.arange(num_cycles) * backbone.cycle)
    return features, valid, carry


def _detect(skeleton, variables, last, last_valid, now, now_valid, of_last, index):
    def rows(a, b):
        here = b[jnp.minimum(index, b.shape[0] - 1)]
        return jnp.where(
            of_last.reshape((-1,) + (1,) * (b.ndim - 1)), a[jnp.minimum(index, a.shape[0] - 1)], here
        )

    features = [rows(a, b) for a, b in zip(last, now)]
    return functional.merge(skeleton, variables).detect(features, rows(last_valid, now_valid)[:, None])


def _events_of(segment: _Segment, name) -> tuple[np.ndarray, ...]:
    """Events (x, y, polarity) of a step of this segment; () for a step of the segment before."""
    row = segment.slots.get(name)
    if row is None:
        return ()
    inputs: Any = segment.batch.inputs
    lane, slot = divmod(row, segment.batch.targets.at_step.shape[1])
    step = segment.batch.targets.at_step[lane, slot]
    part = slice(inputs.step_start[lane, step], inputs.step_start[lane, step + 1])
    return inputs.xy[lane, part, 0], inputs.xy[lane, part, 1], inputs.polarity[lane, part]
