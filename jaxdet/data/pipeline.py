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
    """Makes the batch of any step; picklable, and safe to call from several threads."""

    @property
    def steps_per_epoch(self) -> int: ...

    def batch(self, step: int) -> tuple[Batch, Any]:
        """The batch and a NamedTuple of counts of what it had to leave out."""
        ...


class Batches(Iterator[Batch]):
    """Endless, seekable iterator over the batches of a source.

    `step` is the number of the next batch and all there is to save: another iterator opened at that step, with any
    number of workers, goes on with the same batches. `losses` adds up what batches had to leave out, by name.
    """

    def __init__(self, source: Source, *, start: int = 0, workers: int = 0):
        self.source, self.workers = source, workers
        self.dropped: dict[str, int] = {}
        self._inner: Any = None
        self.step = start

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every sample was seen once."""
        return self.source.steps_per_epoch

    def seek(self, step: int) -> None:
        """Go on with the batch of step `step`."""
        self.close()
        self.step = step

    def __next__(self) -> Batch:
        if self._inner is None:
            self._inner = _grain_iterator(self.source, self.step, self.workers)
        item = next(self._inner)
        if isinstance(item, str):
            self.close()
            raise InputError(item)
        batch, losses = item
        self.step += 1
        for name, count in losses._asdict().items():
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
    """The step's batch, or the message of an InputError: exceptions lose their type between processes."""

    def __init__(self, source: Source):
        self._source = source

    def __call__(self, step: int):
        try:
            return self._source.batch(int(step))
        except InputError as error:
            return str(error)


def prefetched(items: Iterable[T], ahead: int = AHEAD) -> Iterator[T]:
    """The items of an iterable, taken by a thread up to `ahead` before they are asked for.

    An exception comes out in its place. Closing the generator stops the thread at its next item.
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
