"""One error for a read that Orbax breaks off, without the tracebacks of all the others.

Orbax reads every array of a checkpoint in a task of its own. When one fails, the rest is left to the garbage
collector and to threads whose event loop is gone, and each of them prints a traceback over the one line that
says what is wrong.
"""

import contextlib
import gc
import logging
import sys
from collections.abc import Iterator

_LEFT_BEHIND = "Event loop is closed"


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Around a read. What its leftovers have to say is dropped until the process ends: it comes late."""
    _mute()
    try:
        yield
    except Exception:
        gc.collect()  # while nobody listens, not in the middle of what comes next
        raise


def _mute() -> None:
    logging.getLogger("asyncio").addFilter(_is_wanted)  # the same one is added once only
    if sys.unraisablehook is not _hook:
        _others.append(sys.unraisablehook)
        sys.unraisablehook = _hook


_others: list = []


def _is_wanted(record: logging.LogRecord) -> bool:
    return "never retrieved" not in record.getMessage()


def _hook(unraisable) -> None:
    if _LEFT_BEHIND not in str(unraisable.exc_value):
        _others[-1](unraisable)
