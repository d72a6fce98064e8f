"""Endurance of a training run: speed of its input against its step, and growth of host memory."""

import os
import resource
import time
from typing import Any, NamedTuple

import numpy as np

from jaxdet import data, sharding
from jaxdet.training import loop
from jaxdet.training import setup as runs
from jaxdet.training.loop import StepInfo

_WARM_UP = 0.2  # fraction of the updates that is not measured, as caches still fill


class Endurance(NamedTuple):
    """Measurements of a stretch of training."""

    batch_ms: float  # time per batch of the input pipeline alone
    step_ms: float  # median time of an update without waiting for its batch
    waiting_ms: float  # mean time an update waits for its batch
    steps_a_batch: float  # step_ms / batch_ms: above 1 the input keeps up
    host_mib: float  # private resident memory at the end
    growth_kib_a_step: float  # growth of host memory per update, after the warm-up

    def as_dict(self) -> dict[str, float]:
        """Measurements by name, rounded to 4 decimals."""
        return {key: round(value, 4) for key, value in self._asdict().items()}


def measure(cfg: Any, num_updates: int, num_batches: int = 100) -> Endurance:
    """Time `num_batches` batches of the training split of `cfg`, then train for `num_updates` updates."""
    batches = data.open(cfg.data, cfg.data.train_split)
    batch_s = _seconds_a_batch(batches, num_batches)
    batches.seek(0)
    run = runs.assemble(cfg, sharding.make_mesh(cfg.data.batch_size))
    seen: list[tuple[float, float, int]] = []

    def note(info: StepInfo) -> None:
        seen.append((info.step_s, info.data_s, host_memory()))

    try:
        stream = runs.device_batches(batches, run.mesh)
        loop.fit(run.train_step, run.state, run.carry, stream, start=0, stop=num_updates, hooks=[note])
    finally:
        batches.close()
    step_s, waiting_s, memory = np.array(seen[int(num_updates * _WARM_UP) :]).T
    own_s = float(np.median(step_s - waiting_s))
    slope = np.polyfit(np.arange(len(memory)), memory, 1)[0] if len(memory) > 1 else 0.0
    return Endurance(
        1e3 * batch_s,
        1e3 * own_s,
        1e3 * float(waiting_s.mean()),
        own_s / batch_s,
        float(memory[-1]) / 2**20,
        float(slope) / 2**10,
    )


def _seconds_a_batch(batches: data.Batches, number: int) -> float:
    next(batches)  # starts the workers, opens the recordings
    began = time.perf_counter()
    for _ in range(number):
        next(batches)
    return (time.perf_counter() - began) / number


def host_memory() -> int:
    """Private resident memory of this process in bytes, or its peak where the system reports no more.

    Pages of mapped recordings do not count, as the system can reclaim them.
    """
    try:
        with open("/proc/self/statm") as file:
            resident, mapped = (int(pages) for pages in file.read().split()[1:3])
        return (resident - mapped) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
