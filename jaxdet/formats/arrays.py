"""NumPy files of foreign origin: never unpickled, their declared sizes checked before memory is taken."""

import io
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np

from jaxdet.errors import InputError

# What NumPy raises for headers that are no headers; SyntaxError and TokenError come from its parser.
_FAULTS = (
    ValueError, KeyError, TypeError, OSError, EOFError, OverflowError, MemoryError, RecursionError,
    IndexError, AttributeError, NotImplementedError, RuntimeError, SyntaxError, tokenize.TokenError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_MOST_BYTES = 1 << 31  # of all arrays of an archive, unpacked


def load(path: str | os.PathLike, expected: str) -> np.ndarray:
    """The array of a .npy file; InputError, which says what was `expected`, for any other file."""
    with _one_line(path, f"{expected} (.npy)"), open(path, "rb") as file:
        return _array(file, os.fstat(file.fileno()).st_size)


def offset(path: str | os.PathLike, dtype: np.dtype, expected: str) -> int:
    """Bytes before the first element of a one-dimensional .npy file of type `dtype`; errors as `load`."""
    with _one_line(path, f"{expected} (.npy)"), open(path, "rb") as file:
        shape, found = _header(file)
        if len(shape) != 1 or found != dtype:
            raise ValueError(f"{found} {shape}, not a row of {dtype}")
        return file.tell()


def load_all(path: str | os.PathLike, expected: str) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name; errors as `load`."""
    with _one_line(path, f"{expected} (.npz)"), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes of arrays")
        found = {}
        for member in members:
            # A member that unpacks to more than it declares ends in an error of zipfile.
            content = io.BytesIO(archive.read(member))
            found[member.filename.removesuffix(".npy")] = _array(content, member.file_size)
        return found


@contextmanager
def _one_line(path: str | os.PathLike, expected: str) -> Iterator[None]:
    """Whatever a file makes NumPy raise becomes an InputError."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected {expected}") from error
    except _FAULTS as error:
        shown = ascii(" ".join(str(error).split()))[1:-1][:160] or type(error).__name__
        raise InputError(f"{path}: {shown}; expected {expected}") from error


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that a .npy file declares; the file stands at its first element afterwards."""
    version = np.lib.format.read_magic(file)
    if version[0] not in (1, 2):
        raise ValueError(f"format version {version[0]}.{version[1]}")
    reader = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(file)
    return shape, dtype


def _array(file: IO[bytes], num_bytes: int) -> np.ndarray:
    shape, dtype = _header(file)
    wanted, held = dtype.itemsize, num_bytes - file.tell()
    for side in shape:
        wanted *= side
    if dtype.hasobject:
        raise ValueError("Python objects, which are not read")
    if wanted > held or min(shape, default=0) < 0:
        raise ValueError(f"declares {wanted} bytes and holds {held}")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def whole_numbers(column: np.ndarray, what: str, low: int, high: int) -> np.ndarray:
    """A column as int64 [N]; ValueError unless all are whole and from `low` to below `high`."""
    column = numbers(column, what)
    wrong = ~((column >= low) & (column < high))
    if column.dtype.kind == "f":
        wrong |= np.floor(column) != column
    if wrong.any():
        raise ValueError(f"{what} {column[wrong][0]}, not a whole number from {low} to {high - 1}")
    return column.astype(np.int64)


def numbers(column: np.ndarray, what: str) -> np.ndarray:
    """The column itself; ValueError unless it has one real number a row."""
    if column.ndim != 1 or column.dtype.kind not in "iuf":
        raise ValueError(f"{what} of type {column.dtype} {column.shape}, not one number each")
    return column
