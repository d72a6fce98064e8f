"""Python values as bytes that can hold data only: JSON, and the bytes of arrays behind it.

What may travel is None, bool, int, float, str, paths, lists, tuples, dictionaries with text as keys, NumPy
arrays and scalars of plain types, and the NamedTuples and dataclasses that both sides list. Anything else is
refused by name, and reading calls nothing but the listed classes.

Layout: length of the JSON text (8 bytes, big endian), the text, the arrays in the order in which the text
names them. Containers are JSON arrays that begin with a tag: ["list", ...], ["tuple", ...], ["path", text],
["record", class, ...], ["array", dtype, shape], the last with null as the shape of a scalar. A JSON object is
a dictionary.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from jaxdet.errors import InputError

MAX_DEPTH = 32
MAX_TEXT = 1 << 28  # bytes of JSON; a list of a million images needs less
_DTYPES = frozenset(np.dtype(code).str for code in "?bhilqBHILQefd")
_HEAD = 8


def encode(value: Any, kinds: Sequence[type] = ()) -> bytes:
    """Bytes of `value`, with the NamedTuples and dataclasses `kinds` in it; TypeError names another type."""
    arrays: list[bytes] = []
    text = json.dumps(_plain(value, _by_name(kinds), arrays, 0), separators=(",", ":")).encode("ascii")
    if len(text) > MAX_TEXT:
        raise ValueError(f"a value of {len(text)} bytes beside its arrays, expected at most {MAX_TEXT}")
    return b"".join([len(text).to_bytes(_HEAD, "big"), text, *arrays])


def decode(data: bytes, kinds: Sequence[type] = ()) -> Any:
    """The value that `encode` turned into `data`, with the same `kinds`; InputError for any other bytes."""
    try:
        return _Reader(data, _by_name(kinds)).value()
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        reason = ascii(str(error))[1:-1][:160] or type(error).__name__
        raise InputError(f"a value of another process cannot be read: {reason}") from error


def _by_name(kinds: Sequence[type]) -> dict[str, type]:
    names = {kind.__name__: kind for kind in kinds}
    for kind in kinds:
        if names[kind.__name__] is not kind:
            raise TypeError(f"two classes named {kind.__name__}")
    return names


def _fields(kind: type) -> tuple[str, ...]:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind) if field.init)
    return kind._fields  # type: ignore[attr-defined]  # a NamedTuple


def _plain(value: Any, kinds: dict[str, type], arrays: list[bytes], depth: int) -> Any:
    """`value` as JSON values; bytes of arrays are appended to `arrays`."""
    if depth > MAX_DEPTH:
        raise TypeError(f"a value nested more than {MAX_DEPTH} deep cannot be sent to another process")
    kind, inner = type(value), lambda item: _plain(item, kinds, arrays, depth + 1)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind in (list, tuple):
        return [kind.__name__, *map(inner, value)]
    if kind is dict and all(type(key) is str for key in value):
        return {key: inner(item) for key, item in value.items()}
    if kinds.get(kind.__name__) is kind:
        return ["record", kind.__name__, *(inner(getattr(value, name)) for name in _fields(kind))]
    if isinstance(value, PurePath):
        return ["path", str(value)]
    if isinstance(value, np.generic) or kind is np.ndarray:
        if value.dtype.str not in _DTYPES:
            raise TypeError(f"an array of {value.dtype} cannot be sent to another process")
        arrays.append(value.tobytes())
        return ["array", value.dtype.str, None if isinstance(value, np.generic) else list(value.shape)]
    raise TypeError(f"a {kind.__module__}.{kind.__qualname__} cannot be sent to another process")


class _Reader:
    """The text of a message and, as it is read, the place in the arrays behind it."""

    def __init__(self, data: bytes, kinds: dict[str, type]):
        length = int.from_bytes(data[:_HEAD], "big")
        if len(data) < _HEAD or length > min(len(data) - _HEAD, MAX_TEXT):
            raise ValueError("cut short")
        self._text, self._kinds = data[_HEAD : _HEAD + length], kinds
        self._arrays = memoryview(data)[_HEAD + length :]

    def value(self) -> Any:
        value = self._value(json.loads(self._text.decode("ascii")), 0)
        if len(self._arrays):
            raise ValueError(f"{len(self._arrays)} bytes too many")
        return value

    def _value(self, item: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        if isinstance(item, dict):
            return {key: self._value(inner, depth + 1) for key, inner in item.items()}
        if not isinstance(item, list):
            return item
        match item:
            case ["list", *rest]:
                return [self._value(inner, depth + 1) for inner in rest]
            case ["tuple", *rest]:
                return tuple(self._value(inner, depth + 1) for inner in rest)
            case ["path", str(text)]:
                return Path(text)
            case ["array", str(dtype), shape]:
                return self._array(dtype, shape)
            case ["record", str(name), *rest]:
                return self._record(name, rest, depth)
        raise ValueError(f"no value begins with {json.dumps(item[:1])[:40]}")

    def _record(self, name: str, rest: list[Any], depth: int) -> Any:
        kind = self._kinds.get(name)
        if kind is None:
            raise ValueError(f"a {name[:40]!r} is not expected here")
        fields = _fields(kind)
        if len(rest) != len(fields):
            raise ValueError(f"a {name} of {len(rest)} fields, expected {len(fields)}")
        return kind(**{field: self._value(inner, depth + 1) for field, inner in zip(fields, rest)})

    def _array(self, dtype: str, shape: Any) -> Any:
        dims = [] if shape is None else shape
        if dtype not in _DTYPES:
            raise ValueError(f"an array of {dtype[:20]!r}")
        if (
            not isinstance(dims, list)
            or len(dims) > MAX_DEPTH
            or any(type(d) is not int or d < 0 for d in dims)
        ):
            raise ValueError(f"an array of shape {str(dims)[:40]}")
        size = math.prod(dims) * np.dtype(dtype).itemsize
        if size > len(self._arrays):
            raise ValueError(f"an array of {size} bytes where {len(self._arrays)} are left")
        flat, self._arrays = np.frombuffer(self._arrays[:size], dtype), self._arrays[size:]
        if flat.dtype == bool and (flat.view(np.uint8) > 1).any():
            raise ValueError("an array of bool with other bytes than 0 and 1")
        array = flat.reshape(dims).copy()
        return array[()] if shape is None else array
