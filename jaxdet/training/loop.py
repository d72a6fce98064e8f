"""Iterate, look at each step's loss, call hooks."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxdet.structs import Batch
from jaxdet.training.state import TrainState
from jaxdet.training.step import TrainStep


class StepInfo(NamedTuple):
    """The values that a hook is given after a step; state and carry can be read if `has_state`."""

    step: int  # optimiser steps taken, this one included
    state: TrainState
    carry: Any
    metrics: dict[str, float]
    data_s: float  # time spent waiting for the batch
    step_s: float  # time from one step's end to the next one's, waiting included
    has_state: bool = True  # False: the next step has been given state and carry, and may have used them up


Hook = Callable[[StepInfo], None]


class Stop(Exception):
    """Raised by a hook to end training in good order."""


class NonFiniteLoss(Exception):
    """Loss or gradient of a step is NaN or infinite; `batch` is what it was computed from."""

    def __init__(self, step: int, batch: Batch):
        super().__init__(f"loss or gradient is not finite at step {step}")
        self.step, self.batch = step, batch


def fit(
    train_step: TrainStep,
    state: TrainState,
    carry: Any,
    batches: Iterable[Batch],
    *,
    start: int,
    stop: int,
    hooks: Sequence[Hook],
    needs_state: Callable[[int], bool] = lambda step: True,
) -> tuple[TrainState, Any]:
    """Train from optimiser step `start` to `stop`; hooks see a step only after its loss and
    gradient are known to be finite.

    `needs_state` tells, once for each number of steps taken, whether a hook reads state or carry then. Where
    none does, the device is given the next step before the numbers of this one are read, so that it need not
    wait for the host.

    Raises NonFiniteLoss, with the state of the last checkpoint untouched.
    """
    iterator = iter(batches)
    look = _Look(hooks)
    unread: deque[_Taken] = deque()
    if start < stop:
        upcoming = next(iterator)
    data_s = time.perf_counter() - look.ended
    for step in range(start, stop):
        batch, waited = upcoming, data_s
        state, carry, metrics = train_step(state, carry, batch)
        unread.append(_Taken(step, batch, state, carry, metrics, waited))
        if step + 1 < stop:  # the next batch is fetched and uploaded while the device works
            began = time.perf_counter()
            upcoming = next(iterator)
            data_s = time.perf_counter() - began
        try:
            while len(unread) > 1:
                look(unread.popleft(), False)
            if needs_state(step + 1) or step + 1 == stop:
                look(unread.popleft(), True)
        except Stop:
            break
    return state, carry


class _Taken(NamedTuple):
    """A step that the device was given, and its batch."""

    step: int
    batch: Batch
    state: TrainState
    carry: Any
    metrics: Mapping[str, jax.Array]
    waited: float


class _Look:
    """Waits for the numbers of a step, and calls the hooks if they are finite."""

    def __init__(self, hooks: Sequence[Hook]):
        self._hooks, self.ended = hooks, time.perf_counter()

    def __call__(self, taken: _Taken, has_state: bool) -> None:
        values = {k: float(v) for k, v in jax.device_get(taken.metrics).items()}
        # A gradient that is not finite has spoilt the weights, which the next loss would tell too late.
        if not (math.isfinite(values["loss"]) and math.isfinite(values.get("gradient_norm", 0.0))):
            raise NonFiniteLoss(taken.step, taken.batch)
        now = time.perf_counter()
        times = taken.waited, now - self.ended
        info = StepInfo(taken.step + 1, taken.state, taken.carry, values, *times, has_state)
        self.ended = now
        for hook in self._hooks:
            hook(info)
