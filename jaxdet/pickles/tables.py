"""Plain containers and NumPy values: what their names in a pickle stand for."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdet.pickles.bounds import add_members
from jaxdet.pickles.names import Buildable

Calls = dict[tuple[str, str], Callable]


class Dtype(Buildable):
    """NumPy element type: a code such as `f8` and then, as state, its byte order. Numbers only."""

    codes = re.compile(r"[biuf]\d{1,2}", re.ASCII)

    def __init__(self, code: Any, *_unused: Any):
        if type(code) is not str or not self.codes.fullmatch(code):
            shown = repr(code[:40]) if type(code) is str else type(code).__name__
            raise ValueError(f"NumPy type {shown}")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", ">", "=", "|"):
            raise ValueError("unknown byte order of a NumPy type")
        self.dtype = self.dtype.newbyteorder(state[1])


class AnyDtype(Dtype):
    """NumPy element type of complex numbers and text as well."""

    codes = re.compile(r"[biufc]\d{1,2}|[SU]\d{1,6}", re.ASCII)


class _Array(np.ndarray, Buildable):
    """A NumPy array that still waits for shape, type and bytes."""

    def build(self, state: Any) -> None:
        _version, shape, kind, fortran, raw = state
        raw = _elements(raw, kind)
        if type(shape) is not tuple or not all(map(is_count, shape)):
            raise ValueError("a NumPy array without a shape")
        if self.size:
            # NumPy would free the bytes that others may already look at.
            raise ValueError("a NumPy array with two contents")
        complete: Any = (1, shape, kind.dtype, bool(fortran), raw)
        np.ndarray.__setstate__(self, complete)


def is_count(value: Any) -> bool:
    """True for an integer that may be a size or an offset."""
    return type(value) is int and 0 <= value < 1 << 48


def _elements(raw: Any, kind: Any) -> bytes:
    """The bytes of NumPy values; text is how Python 2 wrote them."""
    if type(raw) is str:
        raw = raw.encode("latin-1")
    if not isinstance(kind, Dtype) or type(raw) not in (bytes, bytearray):
        raise ValueError("NumPy values that are not numbers")
    raw = bytes(raw)  # no copy of what is bytes already
    # A boolean of another byte than 0 and 1 breaks NumPy's own arithmetic.
    return (np.frombuffer(raw, np.uint8) != 0).tobytes() if kind.dtype.char == "?" else raw


def _array(*_unused: Any) -> np.ndarray:
    return np.ndarray.__new__(_Array, (0,), np.uint8)


def _from_buffer(raw: Any, kind: Any, shape: Any, order: Any = "C") -> np.ndarray:
    """An array as protocol 5 writes it."""
    raw = _elements(raw, kind)
    if type(shape) is not tuple or not all(map(is_count, shape)) or order not in ("C", "F"):
        raise ValueError("a NumPy array without a shape")
    return np.frombuffer(raw, kind.dtype).reshape(shape, order=order)


def _scalar(kind: Any, raw: Any) -> np.generic:
    raw = _elements(raw, kind)
    if len(raw) != kind.dtype.itemsize:
        raise ValueError(f"a NumPy number of {len(raw)} bytes")
    return np.frombuffer(raw, kind.dtype)[0]


def _encode(text: Any, encoding: Any = "utf-8") -> bytes:
    if encoding not in ("latin1", "latin-1") or type(text) is not str:
        raise ValueError("unknown encoding")
    return text.encode("latin-1")


def _bytes(*args: Any) -> bytes:
    """Protocols 0 to 2 write the empty value by its class, others as text."""
    if args:
        raise ValueError("bytes from other values")
    return b""


def _bytearray(content: Any = b"", encoding: Any = "latin-1") -> bytearray:
    if type(content) not in (str, bytes):
        raise ValueError("bytes from other values")
    return bytearray(_encode(content, encoding) if type(content) is str else content)


def _set(members: Any = ()) -> set:
    if type(members) not in (list, tuple):
        raise ValueError("a set that is not made from a list")
    made: set = set()
    add_members(made, members)
    return made


def _frozenset(members: Any = ()) -> frozenset:
    return frozenset(_set(members))


# Sets and bytes, which only newer protocols write without names.
CONTAINERS: Calls = {
    ("builtins", "set"): _set,
    ("builtins", "frozenset"): _frozenset,
    ("builtins", "bytes"): _bytes,
    ("builtins", "bytearray"): _bytearray,
    ("_codecs", "encode"): _encode,
}
NUMBERS: Calls = {
    ("numpy", "dtype"): Dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
}
ARRAYS: Calls = {
    **NUMBERS,
    ("numpy", "ndarray"): _array,
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
}
