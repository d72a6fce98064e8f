"""One error for a read or write that Orbax breaks off, without the tracebacks of all the others.

Orbax reads and writes every array of a checkpoint in a task of its own. When one fails, the rest is left to
the garbage collector and to threads whose event loop is gone, and each of them prints a traceback over the
one line that says what is wrong.
"""

import contextlib
import gc
import logging
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

_LEFT_BEHIND = "Event loop is closed"


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Around a read or write. What its leftovers say is dropped until the process ends: it comes late."""
    _mute()
    try:
        yield
    except Exception:
        gc.collect()  # while nobody listens, not in the middle of what comes next
        raise


def _mute() -> None:
    for name in ("asyncio", "absl"):
        logging.getLogger(name).addFilter(_is_wanted)  # the same one is added once only
    if sys.unraisablehook is not _unraisable_hook:
        _unraisable.append(sys.unraisablehook)
        sys.unraisablehook = _unraisable_hook
    if sys.excepthook is not _except_hook:  # TensorStore's threads print by it
        _uncaught.append(sys.excepthook)
        sys.excepthook = _except_hook


_unraisable: list = []
_uncaught: list = []


def _is_wanted(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    # The second is what a thread of Orbax raised, which the caller gets as well.
    return "never retrieved" not in text and "_SignalingThread.run() raised" not in text


def _unraisable_hook(unraisable: Any) -> None:
    if _LEFT_BEHIND not in str(unraisable.exc_value):
        _unraisable[-1](unraisable)


def _except_hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if _LEFT_BEHIND not in str(error):
        _uncaught[-1](kind, error, trace)
