"""Batches made ahead of time by threads or worker processes, in the order of their step numbers."""

import functools
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from jaxdet.errors import InputError
from jaxdet.structs import Batch

AHEAD = 4  # batches a process keeps ready
_ENDLESS = 1 << 40  # steps


class Source(Protocol):
    """Maker of the batch of any step; it is picklable and safe to call from several threads."""

    @property
    def steps_per_epoch(self) -> int: ...

    def batch(self, step: int) -> tuple[Batch, Any]:
        """The batch of a step, and a NamedTuple of counts of what it had to leave out."""
        ...


class Batches(Iterator[Batch]):
    """Endless, seekable iterator over the batches of a source.

    `step` is the number of the next batch and the whole state: another iterator opened at that step, with any
    number of workers, continues with the same batches. `dropped` adds up the counts of what batches had to
    leave out, by name.
    """

    def __init__(self, source: Source, *, start: int = 0, workers: int = 0):
        self.source, self.workers = source, workers
        self.dropped: dict[str, int] = {}
        self._inner: Any = None
        self.step = start

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch, in which every sample is seen once."""
        return self.source.steps_per_epoch

    def seek(self, step: int) -> None:
        """Continue with the batch of step `step`."""
        self.close()
        self.step = step

    def __next__(self) -> Batch:
        if self._inner is None:
            self._inner = _grain_iterator(self.source, self.step, self.workers)
        item = next(self._inner)
        if isinstance(item, str):
            self.close()
            raise InputError(item)
        batch, dropped = item
        self.step += 1
        for name, count in dropped._asdict().items():
            self.dropped[name] = self.dropped.get(name, 0) + int(count)
        return batch

    def close(self) -> None:
        """Stop threads and workers; the next batch starts them again."""
        inner, self._inner = self._inner, None
        if inner is not None and hasattr(inner, "close"):
            inner.close()


def _grain_iterator(source: Source, start: int, workers: int) -> Iterator[Any]:
    # Grain imports jax, which data modules must not do on import.
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # Grain's workers read flags
        flags.FLAGS(["jaxdet"])
    dataset = grain.MapDataset.range(start, _ENDLESS).map(_Make(source))
    ahead = dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=AHEAD))
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        ahead = ahead.mp_prefetch(options)
    return iter(ahead)


class _Make:
    """Maker of a step's batch or an InputError's message, as exceptions lose their type between processes."""

    def __init__(self, source: Source):
        self._source = source

    def __call__(self, step: int) -> tuple[Batch, Any] | str:
        try:
            return self._source.batch(int(step))
        except InputError as error:
            return str(error)


def lanes_of(batch_size: int, process: tuple[int, int]) -> range:
    """Lanes of a batch that a process (index, count) makes; InputError for a batch that does not divide."""
    index, count = process
    if batch_size % count:
        raise InputError(
            f"batch size {batch_size} is not a multiple of {count} processes; change data.batch_size"
        )
    local = batch_size // count
    return range(index * local, (index + 1) * local)


@functools.lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, num: int) -> np.ndarray:
    """Order of `num` samples in an epoch, int64 [num]."""
    return np.random.default_rng([seed, 0, epoch]).permutation(num)
