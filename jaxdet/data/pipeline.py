"""Batches made ahead of time by threads or worker processes, in the order of their step numbers."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar

from jaxdet.errors import InputError
from jaxdet.structs import Batch

AHEAD = 4  # batches a process keeps ready
_ENDLESS = 1 << 40  # steps

T = TypeVar("T")


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


def _grain_iterator(source: Source, start: int, workers: int):
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

    def __call__(self, step: int):
        try:
            return self._source.batch(int(step))
        except InputError as error:
            return str(error)


def prefetched(items: Iterable[T], ahead: int = AHEAD) -> Iterator[T]:
    """Iterate over `items`, which a thread reads up to `ahead` items in advance.

    An exception is raised in its place. Closing the generator stops the thread at its next item.
    """
    ready: queue.Queue = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def offer(kind: str, value: Any) -> None:
        while not stopped.is_set():
            try:
                return ready.put((kind, value), timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                offer("item", item)
                if stopped.is_set():
                    return
            offer("end", None)
        except BaseException as error:  # handed to the consumer
            offer("error", error)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stopped.set()
        thread.join()
