"""Tensors of a `.pth`, `.pt` or `.ckpt` file without torch, and without running anything the file says.

Two containers exist: a zip archive with `data.pkl` and one member per storage (torch 1.6 and later), and
before it a stream of five pickles followed by the storages. In both the pickle names storages by persistent
ids.
"""

import mmap
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxdet import pickles
from jaxdet.errors import InputError
from jaxdet.pickles import tables
from jaxdet.weights.torch import names
from jaxdet.weights.torch.writer import save

__all__ = ["load", "save"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_PICKLE = 256 << 20
_MAX_FILE = 16 << 30
# What damaged bytes may cause in an archive or a stream; RuntimeError is that of a password.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, MemoryError,
    ValueError, ArithmeticError, LookupError, TypeError,
)  # fmt: skip


def load(path: str | os.PathLike) -> Any:
    """Content of a torch file as Python containers; tensors and parameters are read-only NumPy arrays.

    Objects of classes known to be harmless by name (modules of torch, of the released detectors, of training
    tools) come back as `pickles.Inert`. bfloat16 is `ml_dtypes.bfloat16`. Raises InputError, in one line, for
    anything that is not a torch file, is damaged or cut short, is too large for what it holds, or names a
    class outside the list.
    """
    path = Path(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(4)
        if size > _MAX_FILE:
            raise InputError(f"{path}: {size >> 30} GiB; files over {_MAX_FILE >> 30} GiB are not read")
        try:
            if head == b"PK\x03\x04":
                return _load_zip(file, size)
            if head[:1] == b"\x80":
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    return _load_stream(data)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except _DAMAGE as error:
            found = ascii(str(error)[:120])[1:-1] or type(error).__name__
            raise InputError(f"{path}: damaged file ({found}); fetch it again") from error
    raise InputError(f"{path}: begins with {head!r}; expected a file written by torch.save")


def _load_zip(file: BinaryIO, size: int) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise InputError("compressed archive; torch stores its members uncompressed")
        if sum(info.file_size for info in members.values()) > size:
            raise InputError("members larger than the archive; not a file of torch.save")
        roots = [name.removesuffix("data.pkl") for name in members if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(roots) != 1:
            raise InputError(
                "zip archive without exactly one data.pkl; expected a file written by torch.save"
            )
        root = roots[0]
        if root + "constants.pkl" in members:
            raise InputError("TorchScript archive; expected a state dict or a checkpoint of torch.save")
        if members[root + "data.pkl"].file_size > _MAX_PICKLE:
            raise InputError(f"data.pkl of more than {_MAX_PICKLE >> 20} MiB")
        if root + "byteorder" in members and archive.read(root + "byteorder") != b"little":
            raise InputError("big-endian tensors; expected little-endian")

        raw: dict[tuple[str, np.dtype], np.ndarray] = {}

        def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
            name = f"{root}data/{key}"
            if name not in members:
                raise InputError(f"storage {key[:40]!r} is missing from the archive")
            if members[name].file_size != count * dtype.itemsize:
                raise InputError(
                    f"storage {key[:40]!r} has {members[name].file_size} bytes, expected {count} of {dtype}"
                )
            if (key, dtype) not in raw:
                raw[key, dtype] = np.frombuffer(_clean(archive.read(name), dtype), dtype)
            return raw[key, dtype]

        return pickles.read(archive.read(root + "data.pkl"), names.NAMES, 0, _persistent(storage))[0]


def _load_stream(data: mmap.mmap) -> Any:
    def part(start: int, persistent: Callable[[Any], Any] | None = None) -> tuple[Any, int]:
        return pickles.read(data, names.NAMES, start, persistent)

    magic, position = part(0)
    if type(magic) is not int or magic != _LEGACY_MAGIC:
        raise InputError("a pickle, but not of torch.save")
    protocol, position = part(position)
    if type(protocol) is not int or protocol != _LEGACY_PROTOCOL:
        raise InputError(f"torch stream protocol {str(protocol)[:40]!r}, expected {_LEGACY_PROTOCOL}")
    system, position = part(position)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise InputError("big-endian tensors; expected little-endian")

    storages: dict[str, np.ndarray] = {}
    planned = 0

    def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        nonlocal planned
        if key not in storages:
            planned += count * dtype.itemsize
            if planned > len(data):
                raise InputError(f"storages of {planned} bytes in a file of {len(data)}; it is cut short")
            storages[key] = np.zeros(count, dtype)
        if storages[key].dtype != dtype or storages[key].size != count:
            raise InputError(f"storage {key[:40]!r} is described in two ways")
        return storages[key]

    value, position = part(position, _persistent(storage))
    keys, position = part(position)
    if not isinstance(keys, list) or set(map(str, keys)) != set(storages):
        raise InputError("the list of storages differs from those in use")
    for key in keys:
        position = _fill(storages[key], data, position)
    return value


def _fill(storage: np.ndarray, data: mmap.mmap, position: int) -> int:
    """Copy one storage of a stream, an int64 count and the elements, and return the position behind it."""
    start = position + 8
    stop = start + storage.nbytes
    if stop > len(data):
        raise InputError(f"cut short: {len(data)} bytes, a storage ends at {stop}")
    if int.from_bytes(data[position:start], "little") != storage.size:
        raise InputError(f"a storage of {storage.size} elements is stored with another length")
    storage[:] = np.frombuffer(_clean(data[start:stop], storage.dtype), storage.dtype)
    return stop


def _clean(raw: bytes, dtype: np.dtype) -> bytes:
    """Bytes that are valid elements: a boolean is 0 or 1."""
    return (np.frombuffer(raw, np.uint8) != 0).tobytes() if dtype == np.bool_ else raw


def _persistent(storage: Callable[[str, np.dtype, int], np.ndarray]) -> Callable[[Any], Any]:
    """Meaning of persistent ids: `('storage', type, key, location, count[, view])` and `('module', class,
    ...)`.
    """

    def find(identity: Any) -> Any:
        if type(identity) is not tuple or len(identity) < 2:
            raise ValueError("a persistent id that is not a tuple")
        if type(identity[0]) is str and identity[0] == "module":
            return identity[1]
        if len(identity) < 5:
            raise ValueError("a persistent id that is too short")
        tag, kind, key, _location, count, *view = identity
        if type(tag) is not str or tag != "storage" or type(key) is not str or not tables.is_count(count):
            raise ValueError("a persistent id that is not of a storage")
        whole = storage(key, names.storage_type(kind), count)
        if view and view[0] is not None:
            _key, offset, length = view[0]
            if not tables.is_count(offset) or not tables.is_count(length) or offset + length > whole.size:
                raise InputError(f"a view outside of storage {key[:40]!r}")
            return whole[offset : offset + length]
        return whole

    return find
