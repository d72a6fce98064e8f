"""Hooks that run after a step: logs, checkpoints, evaluation, a clean stop on SIGTERM."""

import logging
import signal
from collections.abc import Callable, Sequence

from jaxdet import distributed
from jaxdet.training.log_writers import LogWriter, RunningMean
from jaxdet.training.loop import StepInfo, Stop

logger = logging.getLogger(__name__)


class Log:
    """Write running means every `every` iterations; an iteration is `segments` optimiser steps."""

    def __init__(
        self,
        writers: Sequence[LogWriter],
        rate: Callable[[int], float],
        every: int,
        segments: int,
        iterations_per_epoch: int,
    ):
        self.writers, self.rate, self.every = writers, rate, every * segments
        self.segments, self.per_epoch = segments, iterations_per_epoch
        self.epoch = None

    def __call__(self, info: StepInfo) -> None:
        iteration = (info.step - 1) // self.segments
        epoch = iteration // self.per_epoch
        if epoch != self.epoch:
            self.epoch = epoch
            self.loss, self.data_s, self.step_s = RunningMean(0.999), RunningMean(0.99), RunningMean(0.99)
        loss = self.loss.add(info.metrics["loss"])
        data_s, step_s = self.data_s.add(info.data_s), self.step_s.add(info.step_s)
        if info.step % self.every:
            return
        rate = self.rate(info.step - 1)
        timing = {"DataTime": data_s, "BatchTime": step_s}
        values = {
            "Epoch": epoch + 1,
            "Iter": iteration,
            "Loss": loss,
            **timing,
            **info.metrics,
            "LR0": rate,
            "LR1": rate,
        }
        for writer in self.writers:
            writer.write(info.step, values)


class Every:
    """Call `action` after every `every` steps and after the last one."""

    def __init__(self, every: int, last: int, action: Callable[[StepInfo], None]):
        self.every, self.last, self.action = every, last, action

    def __call__(self, info: StepInfo) -> None:
        if info.step == self.last or (self.every and info.step % self.every == 0):
            self.action(info)


class Preemption:
    """On SIGTERM, save and stop: every process at the same step, whichever of them was told.

    With several processes the signal reaches the others through the coordinator (jax.distributed); the step
    at which all stop is agreed on there.
    """

    def __init__(self, save: Callable[[StepInfo], None]):
        self.save, self.told = save, False
        self._before = signal.signal(signal.SIGTERM, self._tell) if distributed.count() == 1 else None

    def close(self) -> None:
        """Let SIGTERM end the process again, when nothing is left to save."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _tell(self, *_) -> None:
        self.told = True

    def __call__(self, info: StepInfo) -> None:
        if not (self.told or self._agreed(info.step)):
            return
        self.save(info)
        logger.info(
            "told to stop: saved at step %d; run the same command again to resume from there", info.step
        )
        raise Stop

    @staticmethod
    def _agreed(step: int) -> bool:
        if distributed.count() == 1:
            return False
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(step)
