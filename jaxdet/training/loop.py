"""Iterate, look at each step's loss, call hooks."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax

from jaxdet.structs import Batch
from jaxdet.training.state import TrainState
from jaxdet.training.step import TrainStep


class StepInfo(NamedTuple):
    """The values that a hook is given after a step."""

    step: int  # optimiser steps taken, this one included
    state: TrainState
    carry: Any
    metrics: dict[str, float]
    data_s: float  # time spent waiting for the batch
    step_s: float  # time from one step's end to the next one's, waiting included


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
) -> tuple[TrainState, Any]:
    """Train from optimiser step `start` to `stop`; hooks see a step only after its loss and
    gradient are known to be finite.

    Raises NonFiniteLoss, with the state of the last checkpoint untouched.
    """
    iterator = iter(batches)
    ended = time.perf_counter()
    if start < stop:
        upcoming = next(iterator)
    data_s = time.perf_counter() - ended
    for step in range(start, stop):
        batch, waited = upcoming, data_s
        state, carry, metrics = train_step(state, carry, batch)
        if step + 1 < stop:  # the next batch is fetched and uploaded while the device works
            began = time.perf_counter()
            upcoming = next(iterator)
            data_s = time.perf_counter() - began
        values = {k: float(v) for k, v in jax.device_get(metrics).items()}
        # A gradient that is not finite has spoilt the weights, which the next loss would tell too late.
        if not (math.isfinite(values["loss"]) and math.isfinite(values.get("gradient_norm", 0.0))):
            raise NonFiniteLoss(step, batch)
        now = time.perf_counter()
        info = StepInfo(step + 1, state, carry, values, waited, now - ended)
        ended = now
        try:
            for hook in hooks:
                hook(info)
        except Stop:
            break
    return state, carry
