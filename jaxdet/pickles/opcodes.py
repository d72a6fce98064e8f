"""The opcodes of pickles, protocols 0 to 5: what each does to the machine.

Opcodes of old-style instances and of the extension registry are left out: they stand for code only.
"""

import codecs
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from jaxdet.pickles.bounds import add_members, add_pairs
from jaxdet.pickles.machine import Machine
from jaxdet.pickles.names import Buildable, Global, Inert

# Digits of a number that is written as text.
_MAX_DIGITS = 700
# Bytes of an integer; Python converts longer ones to text in quadratic time, or refuses to.
_MAX_INTEGER = 255
_STOP = ord(".")


def run(m: Machine) -> Any:
    """The object of the pickle; leaves the machine's position behind it."""
    data, end = m.data, m.end
    for _ in range(m.names.max_objects):
        if m.position >= end:
            raise ValueError("it is cut short")
        code = data[m.position]
        m.position += 1
        if code == _STOP:
            if len(m.stack) != 1 or m.below:
                raise ValueError("values left over at the end, or none")
            return m.stack[0]
        operation = _OPERATIONS[code]
        if operation is None:
            raise ValueError(f"opcode {bytes([code])!r} is not one of plain data")
        operation(m)
    raise ValueError(f"more than {m.names.max_objects} objects")


def _protocol(m: Machine) -> None:
    if m.byte() > 5:
        raise ValueError("unknown pickle protocol")


def _frame(m: Machine) -> None:
    # A hint for buffered readers, which must not be believed.
    length = int.from_bytes(m.take(8), "little")
    if length > m.end - m.position:
        raise ValueError(f"it is cut short: a frame of {length} bytes, {m.end - m.position} left")


def _mark(m: Machine) -> None:
    m.below.append(m.stack)
    m.stack = []


def _pop(m: Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.since_mark()


def _constant(value: Any) -> Callable[[Machine], None]:
    return lambda m: m.push(value)


def _fresh(kind: type) -> Callable[[Machine], None]:
    return lambda m: m.push(kind())


def _binary(form: str) -> Callable[[Machine], None]:
    unpack, size = struct.Struct(form).unpack_from, struct.calcsize(form)

    def read(m: Machine) -> None:
        m.stack.append(unpack(m.data, m.position)[0])
        m.position += size

    return read


def _sized(form: str, convert: Callable[[bytes], Any]) -> Callable[[Machine], None]:
    """A value with its length before it."""
    unpack, size = struct.Struct(form).unpack_from, struct.calcsize(form)

    def read(m: Machine) -> None:
        count = unpack(m.data, m.position)[0]
        m.position += size
        m.stack.append(convert(m.take(count)))

    return read


def _in_line(convert: Callable[[bytes], Any], limit: int | None = _MAX_DIGITS) -> Callable[[Machine], None]:
    """A value as a line of text."""
    return lambda m: m.push(convert(m.line(limit)))


def _long(raw: bytes) -> int:
    if len(raw) > _MAX_INTEGER:
        raise ValueError(f"an integer of {len(raw)} bytes")
    return int.from_bytes(raw, "little", signed=True)


def _int_text(line: bytes) -> int | bool:
    return {b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line)


def _long_text(line: bytes) -> int:
    return int(line.removesuffix(b"L"))


def _text(raw: bytes) -> str:
    # Strict: half a character from beyond the base plane cannot be printed or written later.
    return raw.decode("utf-8")


def _old_text(raw: bytes) -> str:
    # Strings of Python 2: bytes there, names in practice.
    return raw.decode("latin-1")


def _quoted(line: bytes) -> str:
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b'"', b"'"):
        raise ValueError("text without quotes")
    return _old_text(codecs.escape_decode(line[1:-1])[0])


def _escaped(line: bytes) -> str:
    text = line.decode("raw-unicode-escape")
    return _text(text.encode("utf-8"))


def _tuple(count: int) -> Callable[[Machine], None]:
    def make(m: Machine) -> None:
        values = m.stack[-count:]
        if len(values) != count:
            raise ValueError("too few values for a tuple")
        m.stack[-count:] = [tuple(values)]

    return make


def _memoize(m: Machine) -> None:
    m.memo[len(m.memo)] = m.stack[-1]


def _put(index: Callable[[Machine], int]) -> Callable[[Machine], None]:
    def put(m: Machine) -> None:
        at = index(m)
        if not 0 <= at < 1 << 32:
            raise ValueError("a memo index outside of 32 bits")
        m.memo[at] = m.stack[-1]

    return put


def _get(index: Callable[[Machine], int]) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(m.memo[index(m)])


def _index4(m: Machine) -> int:
    return int.from_bytes(m.take(4), "little")


def _index_text(m: Machine) -> int:
    return int(m.line(_MAX_DIGITS))


def _append(m: Machine) -> None:
    value = m.stack.pop()
    _items_of(m.stack[-1]).append(value)


def _appends(m: Machine) -> None:
    values = m.since_mark()
    _items_of(m.stack[-1]).extend(values)


def _items_of(into: Any) -> list:
    if type(into) is list:
        return into
    if isinstance(into, Inert):
        return into.items
    raise ValueError("items for a value that is not a list")


def _set_item(m: Machine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    _add_entries(m.stack[-1], [key, value])


def _set_items(m: Machine) -> None:
    values = m.since_mark()
    _add_entries(m.stack[-1], values)


def _dict(m: Machine) -> None:
    values, made = m.since_mark(), {}
    _add_entries(made, values)
    m.push(made)


def _add_entries(into: Any, values: list) -> None:
    pairs = zip(values[::2], values[1::2], strict=True)
    if isinstance(into, Inert):
        into.items.extend(pairs)
    elif isinstance(into, dict):
        add_pairs(into, pairs)
    else:
        raise ValueError("entries for a value that is not a dict")


def _empty_set(m: Machine) -> None:
    m.count_heavy()
    m.push(set())


def _add_items(m: Machine) -> None:
    values = m.since_mark()
    if type(m.stack[-1]) is not set:
        raise ValueError("members for a value that is not a set")
    add_members(m.stack[-1], values)


def _frozenset(m: Machine) -> None:
    m.count_heavy()
    members: set = set()
    add_members(members, m.since_mark())
    m.push(frozenset(members))


def _named(m: Machine) -> None:
    module = _text(m.line())
    m.push(m.names.resolve(module, _text(m.line())))


def _named_on_stack(m: Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    m.push(m.names.resolve(module, name))


def _call(m: Machine) -> None:
    args, kind = m.stack.pop(), m.stack.pop()
    if not isinstance(kind, Global) or type(args) is not tuple:
        raise ValueError("a call of something that is not a name")
    m.charge(args, *args)
    made = Inert(kind, args) if kind.call is None else kind.call(*args)
    if isinstance(made, (Inert, OrderedDict, set)):
        m.count_heavy()
    m.push(made)


def _call_with_keywords(m: Machine) -> None:
    if m.stack.pop():
        raise ValueError("a call with keywords")
    _call(m)


def _build(m: Machine) -> None:
    state = m.stack.pop()
    value = m.stack[-1]
    m.charge(state, *(state if type(state) is tuple else ()))
    if isinstance(value, Buildable):
        value.build(state)
        return
    slots: Any = None
    if type(state) is tuple and len(state) == 2:
        state, slots = state
    if isinstance(value, Inert):
        parts = (state if isinstance(state, dict) else {"state": state}), slots or {}
        for part in parts:
            add_pairs(value.state, part.items())
    elif isinstance(value, OrderedDict) and isinstance(state, dict) and slots is None:
        _set_attributes(value, state)
    else:
        raise ValueError("state for a value that has none")


def _set_attributes(value: OrderedDict, state: dict) -> None:
    # torch hangs `_metadata` on state dicts. An attribute must not take the place of a method.
    for name, attribute in state.items():
        if type(name) is not str or hasattr(OrderedDict, name):
            raise ValueError("an attribute that an ordered dict cannot have")
        value.__dict__[name] = attribute


def _persistent(m: Machine) -> None:
    m.push(m.persistent(m.stack.pop()))


_BY_CODE: dict[bytes, Callable[[Machine], Any]] = {
    b"\x80": _protocol, b"\x95": _frame,
    b"(": _mark, b"0": _pop, b"1": Machine.since_mark, b"2": lambda m: m.push(m.stack[-1]),
    b"N": _constant(None), b"\x88": _constant(True), b"\x89": _constant(False), b")": _constant(()),
    b"J": _binary("<i"), b"K": lambda m: m.push(m.byte()), b"M": _binary("<H"), b"G": _binary(">d"),
    b"\x8a": _sized("<B", _long), b"\x8b": _sized("<I", _long),
    b"I": _in_line(_int_text), b"L": _in_line(_long_text), b"F": _in_line(float),
    b"X": _sized("<I", _text), b"\x8c": _sized("<B", _text), b"\x8d": _sized("<Q", _text),
    b"U": _sized("<B", _old_text), b"T": _sized("<I", _old_text),
    b"S": _in_line(_quoted, None), b"V": _in_line(_escaped, None),
    b"C": _sized("<B", bytes), b"B": _sized("<I", bytes), b"\x8e": _sized("<Q", bytes),
    b"\x96": _sized("<Q", bytearray),
    b"t": lambda m: m.push(tuple(m.since_mark())),
    b"\x85": _tuple(1), b"\x86": _tuple(2), b"\x87": _tuple(3),
    b"]": _fresh(list), b"l": lambda m: m.push(m.since_mark()), b"a": _append, b"e": _appends,
    b"}": _fresh(dict), b"d": _dict, b"s": _set_item, b"u": _set_items,
    b"\x8f": _empty_set, b"\x90": _add_items, b"\x91": _frozenset,
    b"p": _put(_index_text), b"q": _put(Machine.byte), b"r": _put(_index4), b"\x94": _memoize,
    b"g": _get(_index_text), b"h": _get(Machine.byte), b"j": _get(_index4),
    b"c": _named, b"\x93": _named_on_stack,
    b"R": _call, b"\x81": _call, b"\x92": _call_with_keywords, b"b": _build, b"Q": _persistent,
}  # fmt: skip
_OPERATIONS = [_BY_CODE.get(bytes([code])) for code in range(256)]
