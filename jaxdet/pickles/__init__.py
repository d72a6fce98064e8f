"""A restricted reader of pickles: it builds data, calls only what a table allows, and is bounded.

Python's own unpickler imports what a pickle names and calls it. This one (`machine`, `opcodes`) turns every
name into a `Global` through the caller's `Names` and calls only what that table attaches to it; tables for
plain containers and for NumPy are in `tables`. `bounds` keeps a small file from crashing or stalling the
reader and those who walk its result.
"""

import mmap
import os
import struct
from collections.abc import Callable
from typing import Any

from jaxdet.errors import InputError
from jaxdet.pickles import bounds, opcodes
from jaxdet.pickles.machine import Machine
from jaxdet.pickles.names import Buildable, Global, Inert, Names

__all__ = ["Buildable", "Global", "Inert", "Names", "load", "read"]

# What a damaged or hostile pickle may cause in an operation on plain values.
_DAMAGE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, struct.error)


def load(path: str | os.PathLike, names: Names) -> Any:
    """The content of a file that is one pickle. Raises InputError, in one line, for all else."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:  # empty, or a pipe
                return read(file.read(), names)[0]
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return read(data, names)[0]
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise InputError(f"{path}: {reason}; expected {names.expected}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read(
    data: bytes | mmap.mmap, names: Names, start: int = 0, persistent: Callable[[Any], Any] | None = None
) -> tuple[Any, int]:
    """Interpret the pickle at `data[start:]` -> the object and the position behind it.

    `persistent(id)` supplies what lies outside of the pickle. Raises InputError, in one line, for what is
    damaged, refused or beyond the bounds.
    """
    machine = Machine(data, start, names, persistent or _no_persistent)
    try:
        value = opcodes.run(machine)
        bounds.check_expansion(value, machine.position - start)
        return value, machine.position
    except InputError:
        raise
    except (RecursionError, MemoryError) as error:
        problem = f"it asks for too much near byte {machine.position}"
        raise InputError(f"not a readable pickle ({problem}); expected {names.expected}") from error
    except _DAMAGE as error:
        problem = f"near byte {machine.position}: {_brief(error)}"
        raise InputError(f"not a readable pickle ({problem}); expected {names.expected}") from error


def _brief(error: Exception) -> str:
    text = str(error) if type(error) is ValueError else f"{type(error).__name__} {error}"
    return "".join(c if c.isprintable() else "?" for c in text[:120])


def _no_persistent(_identity: Any) -> Any:
    raise ValueError("an object outside of the file")
