"""Write tensors and plain containers as a zip archive that `torch.load(weights_only=True)` opens."""

import os
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxdet.files import atomic
from jaxdet.weights.torch.names import STORAGES

_ROOT = "archive"
_STORAGE_NAMES = {dtype: name for name, dtype in STORAGES.items()}


def save(path: str | os.PathLike, value: Any) -> None:
    """Write `value` (dicts, lists, tuples, text, numbers, None and NumPy arrays) for torch.

    Arrays become contiguous tensors of their own type, ml_dtypes.bfloat16 included; zero-dimensional arrays
    stay tensors, NumPy scalars become numbers. An OrderedDict keeps its `_metadata`. Raises TypeError for
    anything else.
    """
    writer = _Writer()
    writer.write(value)
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        _member(archive, "data.pkl", b"\x80\x02" + b"".join(writer.out) + b".")
        _member(archive, "byteorder", b"little")
        for i, array in enumerate(writer.storages):
            _member(archive, f"data/{i}", array.tobytes())
        _member(archive, "version", b"3\n")


def _member(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # A fixed date: equal content gives equal files.
    info = zipfile.ZipInfo(f"{_ROOT}/{name}", (1980, 1, 1, 0, 0, 0))
    with archive.open(info, "w", force_zip64=len(content) >= 1 << 31) as member:
        member.write(content)


class _Writer:
    """Protocol-2 opcodes without a memo, and the storages they name in order."""

    def __init__(self):
        self.out: list[bytes] = []
        self.storages: list[np.ndarray] = []

    def write(self, value: Any) -> None:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None:
            self.out.append(b"N")
        elif isinstance(value, bool):
            self.out.append(b"\x88" if value else b"\x89")
        elif isinstance(value, int):
            self._int(value)
        elif isinstance(value, float):
            self.out.append(b"G" + struct.pack(">d", value))
        elif isinstance(value, str):
            self._text(value)
        elif isinstance(value, np.ndarray):
            self._tensor(value)
        elif isinstance(value, tuple):
            self._sequence(b"(", value, b"t")
        elif isinstance(value, list):
            self._sequence(b"](", value, b"e")
        elif isinstance(value, dict):
            self._dict(value)
        else:
            raise TypeError(
                f"{type(value).__name__} in a torch file; expected containers, numbers, text and arrays"
            )

    def _int(self, value: int) -> None:
        if -(1 << 31) <= value < 1 << 31:
            self.out.append(b"J" + struct.pack("<i", value))
        else:
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.out.append(b"\x8a" + bytes([len(raw)]) + raw)

    def _text(self, value: str) -> None:
        raw = value.encode("utf-8")
        self.out.append(b"X" + struct.pack("<I", len(raw)) + raw)

    def _name(self, module: str, name: str) -> None:
        self.out.append(f"c{module}\n{name}\n".encode())

    def _sequence(self, start: bytes, values: Iterable[Any], end: bytes) -> None:
        self.out.append(start)
        for value in values:
            self.write(value)
        self.out.append(end)

    def _dict(self, value: dict) -> None:
        if isinstance(value, OrderedDict):
            self._name("collections", "OrderedDict")
            self.out.append(b")R")
        else:
            self.out.append(b"}")
        self._sequence(b"(", [x for pair in value.items() for x in pair], b"u")
        if isinstance(value, OrderedDict) and "_metadata" in value.__dict__:
            self.write({"_metadata": value.__dict__["_metadata"]})
            self.out.append(b"b")

    def _tensor(self, array: np.ndarray) -> None:
        if array.dtype not in _STORAGE_NAMES:
            raise TypeError(f"array of {array.dtype}; torch files hold {', '.join(map(str, _STORAGE_NAMES))}")
        dense = np.ascontiguousarray(array)
        self._name("torch._utils", "_rebuild_tensor_v2")
        self.out.append(b"((")
        self._text("storage")
        self._name("torch", _STORAGE_NAMES[array.dtype])
        self._text(str(len(self.storages)))
        self._text("cpu")
        self._int(array.size)
        self.out.append(b"tQ")
        self.storages.append(dense)
        self._int(0)
        self.write(array.shape)
        strides, step = [], 1
        for n in reversed(array.shape):
            strides.insert(0, step)
            step *= max(n, 1)
        self.write(tuple(strides))
        self.write(False)
        self.write(OrderedDict())
        self.out.append(b"tR")
