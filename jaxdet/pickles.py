"""Pickles of predictions, read without running what is in them.

Only dictionaries, lists, tuples, text and numbers come out; a pickle that asks for anything else is refused before it
gets it.
"""

import os
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdet.errors import InputError
from jaxdet.files import atomic

_NUMBER_KINDS = "biuf"


def load(path: str | os.PathLike) -> Any:
    """The content of a pickle of plain containers and numbers; InputError for anything else in it."""
    try:
        with open(path, "rb") as file:
            return _Unpickler(file).load()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a pickle of predictions") from error
    except _Refused as error:
        raise InputError(
            f"{path}: asks for {error}, expected dictionaries, lists and numbers only; it was not run, do not trust it"
        ) from error
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        KeyError,
    ) as error:
        raise InputError(f"{path}: not a readable pickle ({error}); expected predictions") from error


def dump(path: str | os.PathLike, content: Any) -> None:
    """Write `content` as the released tools do, protocol 4."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        pickle.dump(content, file, protocol=4)


class _Refused(pickle.UnpicklingError):
    """Names what a pickle asked for."""


class _Dtype:
    """Stands for numpy.dtype: remembers a plain number type, does nothing else."""

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        if not isinstance(code, str) or code[:1] not in _NUMBER_KINDS or not code[1:].isdigit():
            raise _Refused(f"numpy.dtype {code!r}")
        self.code, self.order = code, "<"

    def __setstate__(self, state):
        self.order = state[1] if state[1] in ("<", ">") else "="

    def number(self) -> np.dtype:
        return np.dtype(self.order + self.code)


def _scalar(dtype: _Dtype, raw: bytes) -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
        raise _Refused("numpy.scalar of an object")
    return np.frombuffer(raw, dtype.number())[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise _Refused(f"_codecs.encode {encoding!r}")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise _Refused(f"{module}.{name}")
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("an object outside of the file")
