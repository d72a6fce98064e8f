"""State of the interpreter of pickles: stack, marks, memo, position, and what may still be spent."""

import mmap
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from jaxdet.pickles.names import Names

# Sets, ordered dicts and inert objects take hundreds of bytes of memory for a few of the file.
_MAX_HEAVY = 2_000_000
# Items and bytes that calls may copy, for each byte of the pickle, and the same for very short ones.
_COPIES = 8
_COPIES_OF_SHORT = 1 << 16

_SMALL = 16
_SIZED = {list, tuple, dict, OrderedDict, set, frozenset, str, bytes, bytearray}


class Machine:
    """Stack, marks and memo of the pickle at `data[position:]`; `opcodes.run` moves it forward."""

    def __init__(
        self, data: bytes | mmap.mmap, position: int, names: Names, persistent: Callable[[Any], Any]
    ):
        self.data, self.position, self.end = data, position, len(data)
        self.names, self.persistent = names, persistent
        self.stack: list = []  # above the last mark
        self.below: list[list] = []  # the stacks under each mark
        self.memo: dict[int, Any] = {}
        self.copies_left = _COPIES * (self.end - position) + _COPIES_OF_SHORT
        self.heavy = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        start, self.position = self.position, self.position + count
        if self.position > self.end:
            raise ValueError(f"it is cut short: {count} bytes declared, {self.end - start} left")
        return self.data[start : self.position]

    def byte(self) -> int:
        """The next byte; at the end of the file it is an IndexError, which the caller expects."""
        self.position += 1
        return self.data[self.position - 1]

    def line(self, limit: int | None = None) -> bytes:
        """The text up to the next end of a line, which must come within `limit` bytes."""
        stop = self.end if limit is None else min(self.position + limit, self.end)
        found = self.data.find(b"\n", self.position, stop)
        if found < 0:
            raise ValueError("a line without end")
        text = self.data[self.position : found]
        self.position = found + 1
        return text

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def since_mark(self) -> list:
        """Take the values above the last mark, and the mark, from the stack."""
        values, self.stack = self.stack, self.below.pop()
        return values

    def charge(self, *values: Any) -> None:
        """Count what is about to be copied: a small pickle can name one large value many times."""
        for value in values:
            if type(value) in _SIZED and len(value) > _SMALL:
                self.copies_left -= len(value)
                if self.copies_left < 0:
                    raise ValueError("values that repeat and are larger than the file")

    def count_heavy(self) -> None:
        """Count an object that takes much more memory than its bytes in the file."""
        self.heavy += 1
        if self.heavy > _MAX_HEAVY:
            raise ValueError(f"more than {_MAX_HEAVY} sets and objects")
