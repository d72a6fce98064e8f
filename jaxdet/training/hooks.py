"""Hooks that run after a step: logs, checkpoints, evaluation, a clean stop on SIGTERM and Ctrl-C."""

import logging
import signal
from collections.abc import Callable, Mapping, Sequence

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
        self.epoch, self.loss = -1, RunningMean(0.999)
        self.data_s, self.step_s = RunningMean(0.99), RunningMean(0.99)

    @property
    def mean(self) -> dict[str, float]:
        """The running mean of the loss, for `resume`."""
        return {"epoch": self.epoch, "total": self.loss.total, "weight": self.loss.weight}

    def resume(self, mean: Mapping[str, float]) -> None:
        """Continue the running mean of the loss; those of times begin anew."""
        self.epoch, self.loss = int(mean["epoch"]), RunningMean(0.999, mean["total"], mean["weight"])

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

    def due(self, step: int) -> bool:
        """True if the action is called after `step`."""
        return step == self.last or bool(self.every and step % self.every == 0)

    def __call__(self, info: StepInfo) -> None:
        if self.due(info.step):
            self.action(info)


class Preemption:
    """On SIGTERM or Ctrl-C, save and stop: every process at the same step, whichever of them was told.

    With several processes SIGTERM reaches the others through the coordinator (jax.distributed); the step at
    which all stop is agreed on there. A second Ctrl-C ends a single process at once.
    `due` is asked once a step.
    """

    def __init__(self, save: Callable[[StepInfo], None]):
        self.save, self.told, self.last = save, False, -1
        signals = (signal.SIGTERM, signal.SIGINT) if distributed.count() == 1 else ()
        self._before = {number: signal.signal(number, self._tell) for number in signals}

    def close(self) -> None:
        """Let the signals end the process again, when nothing is left to save."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _tell(self, number: int, _) -> None:
        if number == signal.SIGINT:
            if self.told:
                raise KeyboardInterrupt
            logger.info("interrupted: saving after this step; once more ends at once")
        self.told = True

    def due(self, step: int) -> bool:
        """True if training ends with `step`; settled here, as its state has to be there for `save`."""
        if self.told or self._agreed(step):
            self.last = step
        return step == self.last

    def __call__(self, info: StepInfo) -> None:
        # A signal that came since `due` was asked is obeyed where the state happens to be there.
        if not (info.step == self.last or (self.told and info.has_state)):
            return
        self.save(info)
        logger.info(
            "told to stop: saved at step %d; run the same command again to resume from there", info.step
        )
        raise Stop

    @property
    def came(self) -> bool:
        """True if this process was told to stop, or all agreed to."""
        return self.told or self.last >= 0

    @staticmethod
    def _agreed(step: int) -> bool:
        if distributed.count() == 1:
            return False
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(step)
