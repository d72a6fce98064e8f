"""The processes of a job: how they find each other, wait for each other and exchange Python values.

For a process on its own all of this is trivial: `start` does nothing, `barrier` returns, `gather` gives its
own value. JAX is imported only where there are several.
"""

import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from jaxdet.distributed import codec, environment, flags, trust
from jaxdet.distributed.door import Door, Seat
from jaxdet.distributed.environment import Place
from jaxdet.distributed.store import LONG_MS, Store
from jaxdet.distributed.trust import Forged
from jaxdet.distributed.watch import LOST, Watch, end
from jaxdet.errors import InputError, first_line

logger = logging.getLogger(__name__)

T = TypeVar("T")

_place: Place | None = None
_watch: Watch | None = None
_store: Store | None = None
_entrance: Door | Seat | None = None
_round = itertools.count()


def start(saves_when_told: bool = False) -> None:
    """Join the other processes of the job that the environment tells of (see `environment.find`).

    Must come before JAX starts its devices. With `saves_when_told` SIGTERM is left to the training loop,
    which all processes then leave at the same step. JAXDET_SILENT_S (default 25): seconds without a sign of
    life after which a process counts as lost; JAXDET_STILL_S (default 1800): without any progress in training
    or evaluation. JAXDET_JOB_SECRET (default: a key of the user), the same for all processes, keeps other
    programs out of the job.
    """
    global _place, _watch, _store
    if _watch is not None:
        return
    place = environment.find(os.environ)
    if place is not None or "jax" in sys.modules:
        for flag in flags.prepare(os.environ):
            logger.warning("this XLA has no flag %s: left out", flag)
    if place is None:
        return
    silent_s, still_s = _seconds("JAXDET_SILENT_S", 25), _seconds("JAXDET_STILL_S", 1800)
    key = trust.key(os.environ)
    _connect(place, key, saves_when_told, silent_s)
    _place, _store = place, Store(_client(), key, place.process, place.count)
    try:
        _store.shake_hands(silent_s)
    except Forged as error:
        if place.process == 0:
            time.sleep(2)  # the others find it too, and need the coordinator for it
        end(f"error: process {place.process}: {error}", LOST)
    _watch = Watch(_store, silent_s, still_s)
    if place.process == 0:
        logger.info("%d processes (%s), coordinator %s", place.count, place.told_by, place.coordinator)


def _connect(place: Place, key: trust.Key, saves_when_told: bool, silent_s: float) -> None:
    """Start JAX's service behind the door of process 0 and join it; InputError if not all processes come."""
    global _entrance
    timeout_s = _seconds("JAXDET_START_S", 300)
    if place.process == 0:
        _entrance = Door(place.coordinator, key, place.count)
    else:
        _entrance = Seat(place.coordinator, key, place.process)
    _entrance.wait(timeout_s)
    import jax

    jax.config.update("jax_enable_preemption_service", saves_when_told)
    service = f"unix:{_entrance.service}"
    try:
        jax.distributed.initialize(
            service,
            place.count,
            place.process,
            coordinator_bind_address=service,
            initialization_timeout=round(timeout_s),
            # Later than the watch, which names the process.
            heartbeat_timeout_seconds=round(silent_s) + 30,
            shutdown_timeout_seconds=round(silent_s) + 30,
        )
    except Exception as error:
        raise InputError(
            f"process {place.process} of {place.count} ({place.told_by}) did not reach the coordinator "
            f"{place.coordinator} ({first_line(error, 160)}); "
            "check that all processes start and the port is open"
        ) from error


def index() -> int:
    """Number of this process."""
    return _place.process if _place else 0


def count() -> int:
    """Number of processes."""
    return _place.count if _place else 1


def is_main() -> bool:
    """True on process 0, the one that writes and reports."""
    return index() == 0


def main_first(action: Callable[[], T]) -> T:
    """`action` on process 0, then on the others: what it leaves on disk is then there."""
    if is_main():
        result = action()
        barrier()
        return result
    barrier()
    return action()


def barrier() -> None:
    """Wait until every process is here."""
    if _watch:
        _client().wait_at_barrier(f"jaxdet/{next(_round)}", LONG_MS)


def gather(value: T, *kinds: type) -> list[T]:
    """The values of all processes, in their order, on every process.

    A value is made of what `codec` lists and of the NamedTuples and dataclasses in `kinds`.
    """
    if not _store:
        return [value]
    name = f"gather/{next(_round)}"
    _store.put(name, codec.encode(value, kinds))
    values = [codec.decode(_store.get(name, process), kinds) for process in range(count())]
    barrier()
    _store.delete(name)
    return values


def share_of(items: Sequence[T]) -> Sequence[T]:
    """Every n-th of `items`, n processes sharing them."""
    return items[index() :: count()]


def gather_in_order(parts: Iterable[T], *kinds: type) -> list[T]:
    """Results for items that `share_of` divided, in the items' order, on every process.

    `parts` are the results of this process; `kinds` are those of `gather`.
    """
    columns = gather(list(parts), *kinds)
    return [
        item for row in itertools.zip_longest(*columns, fillvalue=_NONE) for item in row if item is not _NONE
    ]


_NONE: Any = object()


def activity(what: str) -> AbstractContextManager[None]:
    """Tell the other processes, while the block runs, that this one is doing `what` by itself."""
    return _watch.doing(what) if _watch else nullcontext()


def report_each(items: Iterable[T], what: str) -> Iterator[T]:
    """`items`; while one is fetched this process is doing `what`."""
    iterator = iter(items)
    while True:
        with activity(what):
            item = next(iterator, _NONE)
        if item is _NONE:
            return
        yield item


def finish() -> None:
    """End the job in good order: wait until all processes have done their work, then disconnect."""
    if _watch:
        import jax

        barrier()
        _watch.leave()
        jax.distributed.shutdown()
    if _entrance:
        _entrance.close()


def leave(error: BaseException, line: str) -> None:
    """End this process because of `error`, told in `line`, if there are others; on its own it returns.

    The others end too. The exit status is 1 where the input is to blame, else `LOST`: starting again may
    help. If another process could not be reached, it is found out first which one is the reason.
    """
    if _watch is None:
        return
    status = 1 if isinstance(error, InputError) else LOST
    line = line[:300]
    if _is_communication(error):
        print(f"process {index()}: {line}", file=sys.stderr, flush=True)
        _watch.wait_for_verdict()
        status = LOST
    else:
        _watch.fail(line, status)
    end(f"error: process {index()}: {line}", status)


def _is_communication(error: BaseException) -> bool:
    text = str(error)
    words = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "coordination", "heartbeat", "barrier")
    return any(word in text for word in words)


def _client() -> Any:
    from jax._src import distributed  # the key-value store has no public name; Orbax takes it from here too

    return distributed.global_state.client


def _seconds(name: str, default: float) -> float:
    value = os.environ.get(name, str(default))
    try:
        return float(value)
    except ValueError:
        raise InputError(f"{name}={value!r}, expected seconds") from None
