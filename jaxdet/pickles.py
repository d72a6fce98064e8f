"""A pickle interpreter that can build data and call nothing.

Python's own unpickler imports what a pickle names and calls it. This one knows the opcodes that torch writes, turns every
named object into a `Global` through the caller's allow-list, and calls only what that list attaches to it. Everything
else becomes an `Inert` record of what the file said.
"""

import struct
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jaxdet.errors import InputError


@dataclass(frozen=True)
class Global:
    """A class or function that a pickle names. `call` is what may be done in its place; None makes it inert."""

    module: str
    name: str
    call: Callable | None = field(default=None, compare=False, repr=False)

    def __str__(self):
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Inert:
    """An object of a class that is not run: its class's name, what it was made from, its `__dict__`, its items."""

    kind: Global
    args: tuple = ()
    state: dict[str, Any] = field(default_factory=dict)
    items: list = field(default_factory=list)


class Buildable(ABC):
    """A value under construction, such as one of NumPy's dtypes or arrays."""

    @abstractmethod
    def build(self, state: Any) -> None:
        """Take the state that the pickle has for it."""


_MARK = object()
_MAX_LINE = 1000


def read(
    data: Any, start: int, resolve: Callable[[str, str], Global], persistent: Callable[[Any], Any]
) -> tuple[Any, int]:
    """Interpret the pickle at `data[start:]` -> the object and the position behind it.

    `data` is `bytes` or an `mmap`; `resolve(module, name)` is the allow-list and refuses by raising InputError;
    `persistent(id)` supplies what lies outside the pickle. Raises InputError for anything torch does not write.
    """
    machine = _Machine(data, start, resolve, persistent)
    try:
        return machine.run(), machine.position
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, struct.error, OverflowError) as error:
        raise InputError(f"damaged pickle near byte {machine.position}: {_brief(error)}") from error
    except (RecursionError, MemoryError) as error:
        raise InputError(f"pickle near byte {machine.position} asks for too much") from error


def _brief(error: Exception) -> str:
    return f"{type(error).__name__} {str(error)[:80]}"


class _Machine:
    """Stack, marks and memo of one pickle; one short method for an opcode or a family of them."""

    def __init__(self, data, start, resolve, persistent):
        self.data, self.position, self.end = data, start, len(data)
        self.resolve, self.persistent = resolve, persistent
        self.stack: list = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while True:
            code = self.take(1)
            if code == b".":
                value = self.stack.pop()
                if self.stack:
                    raise ValueError("values left over at the end")
                return value
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise InputError(
                    f"pickle opcode {code!r} at byte {self.position - 1} is none that torch writes"
                )
            operation(self)

    def take(self, count: int) -> bytes:
        stop = self.position + count
        if stop > self.end:
            raise InputError(f"the pickle is cut short at byte {self.end}")
        piece = self.data[self.position : stop]
        self.position = stop
        return piece

    def number(self, form: str) -> int:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def line(self) -> str:
        stop = self.data.find(b"\n", self.position, min(self.position + _MAX_LINE, self.end))
        if stop < 0:
            raise ValueError("a name without end")
        text = self.take(stop - self.position)
        self.take(1)
        return text.decode("utf-8")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("mark in the place of a value")
        return value

    def top(self) -> Any:
        return self.stack[-1]

    def since_mark(self) -> list:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def last(self, count: int) -> None:
        values = self.stack[len(self.stack) - count :]
        if len(values) != count or any(v is _MARK for v in values):
            raise ValueError("too few values for a tuple")
        del self.stack[len(self.stack) - count :]
        self.push(tuple(values))

    def store(self, index: int) -> None:
        self.memo[index] = self.top()

    def protocol(self) -> None:
        if self.take(1)[0] > 5:
            raise ValueError("unknown pickle protocol")

    def text(self, form: str) -> None:
        self.push(self.take(self.number(form)).decode("utf-8", "surrogatepass"))

    def old_text(self, form: str) -> None:
        # Python 2 strings: bytes there, names in practice.
        self.push(self.take(self.number(form)).decode("latin-1"))

    def raw(self, form: str) -> None:
        self.push(self.take(self.number(form)))

    def long(self, form: str) -> None:
        self.push(int.from_bytes(self.take(self.number(form)), "little", signed=True))

    def name(self) -> None:
        module = self.line()
        self.push(self.resolve(module, self.line()))

    def stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            raise ValueError("a name that is no text")
        self.push(self.resolve(module, name))

    def make(self, keywords: bool = False) -> None:
        named = self.pop() if keywords else {}
        args, kind = self.pop(), self.pop()
        if not isinstance(kind, Global) or type(args) is not tuple or named:
            raise ValueError("call of something that is no known name")
        self.push(Inert(kind, args) if kind.call is None else kind.call(*args))

    def build(self) -> None:
        state, value = self.pop(), self.top()
        if isinstance(value, Buildable):
            value.build(state)
            return
        slots = {}
        if type(state) is tuple and len(state) == 2:
            state, slots = state
        if isinstance(value, Inert):
            value.state.update(state if isinstance(state, dict) else {"state": state}, **(slots or {}))
        elif isinstance(value, OrderedDict) and isinstance(state, dict):
            # torch hangs `_metadata` on state dicts.
            value.__dict__.update(state)
        else:
            raise ValueError("state for a value that has none")

    def append(self, values: list) -> None:
        into = self.top()
        if isinstance(into, Inert):
            into.items.extend(values)
        elif isinstance(into, list):
            into.extend(values)
        else:
            raise ValueError("items for a value that is no list")

    def set_items(self, values: list) -> None:
        into, pairs = self.top(), list(zip(values[::2], values[1::2], strict=True))
        if isinstance(into, Inert):
            into.items.extend(pairs)
        elif isinstance(into, dict):
            into.update(pairs)
        else:
            raise ValueError("entries for a value that is no dict")

    def add_items(self) -> None:
        values, into = self.since_mark(), self.top()
        if not isinstance(into, set):
            raise ValueError("members for a value that is no set")
        into.update(values)


def _dict_of(values: list) -> dict:
    return dict(zip(values[::2], values[1::2], strict=True))


_OPERATIONS: dict[bytes, Callable[[_Machine], object]] = {
    b"\x80": _Machine.protocol,
    b"\x95": lambda m: m.take(8),  # frame length: a hint for buffered readers
    b"(": lambda m: m.push(_MARK),
    b"0": lambda m: m.pop(),
    b"1": lambda m: m.since_mark(),
    b"2": lambda m: m.push(m.top()),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(m.number("i")),
    b"K": lambda m: m.push(m.number("B")),
    b"M": lambda m: m.push(m.number("H")),
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    b"\x8a": lambda m: m.long("B"),
    b"\x8b": lambda m: m.long("I"),
    b"X": lambda m: m.text("I"),
    b"\x8c": lambda m: m.text("B"),
    b"\x8d": lambda m: m.text("Q"),
    b"U": lambda m: m.old_text("B"),
    b"T": lambda m: m.old_text("I"),
    b"C": lambda m: m.raw("B"),
    b"B": lambda m: m.raw("I"),
    b"\x8e": lambda m: m.raw("Q"),
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.since_mark())),
    b"\x85": lambda m: m.last(1),
    b"\x86": lambda m: m.last(2),
    b"\x87": lambda m: m.last(3),
    b"]": lambda m: m.push([]),
    b"l": lambda m: m.push(m.since_mark()),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.since_mark()),
    b"}": lambda m: m.push({}),
    b"d": lambda m: m.push(_dict_of(m.since_mark())),
    b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    b"u": lambda m: m.set_items(m.since_mark()),
    b"\x8f": lambda m: m.push(set()),
    b"\x90": _Machine.add_items,
    b"\x91": lambda m: m.push(frozenset(m.since_mark())),
    b"q": lambda m: m.store(m.number("B")),
    b"r": lambda m: m.store(m.number("I")),
    b"\x94": lambda m: m.store(len(m.memo)),
    b"h": lambda m: m.push(m.memo[m.number("B")]),
    b"j": lambda m: m.push(m.memo[m.number("I")]),
    b"c": _Machine.name,
    b"\x93": _Machine.stack_name,
    b"R": _Machine.make,
    b"\x81": _Machine.make,
    b"\x92": lambda m: m.make(keywords=True),
    b"b": _Machine.build,
    b"Q": lambda m: m.push(m.persistent(m.pop())),
}
