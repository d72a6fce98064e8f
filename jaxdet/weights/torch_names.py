"""What the names in a torch file may become: tensors, containers, NumPy values, inert stubs. Nothing else."""

import re
from collections import OrderedDict
from typing import Any

import ml_dtypes
import numpy as np

from jaxdet.errors import InputError
from jaxdet.pickles import Buildable, Global, Inert

# Storage class -> element type; torch names storages by C types.
STORAGES = {
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}

# Whole pickled models and training tools keep their classes' names here; the objects stay inert.
_INERT = re.compile(
    r"(torch|torchvision|models|utils|yolox|hmnet|mish_cuda|pytorch_lightning|lightning|apex|timm)(\..+)?"
    r"|(argparse|pathlib|functools|datetime|numpy\.random)(\..+)?"
)
# Types without effect that may stand as values.
_BUILTIN_TYPES = {
    "int",
    "float",
    "bool",
    "str",
    "bytes",
    "complex",
    "list",
    "dict",
    "tuple",
    "object",
    "type",
}

# A view may repeat its storage (stride 0), but not turn a small file into a huge array.
_MAX_REPEATED = 1 << 24


def resolve(module: str, name: str) -> Global:
    """The allow-list. Raises InputError for every name that is neither data nor a known inert class."""
    module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
    module = module.replace("numpy._core", "numpy.core")
    call = _CALLS.get((module, name))
    if call is None and not (
        _INERT.fullmatch(module) or (module == "builtins" and name in _BUILTIN_TYPES) or module == "__main__"
    ):
        shown = f"{module}.{name}"[:120]
        raise InputError(
            f"the file names {shown!r}, which is no tensor, container or known module; "
            "nothing was run; use it only if you trust its origin, saved anew as a plain state dict"
        )
    return Global(module, name, call)


def storage_type(kind: Any) -> np.dtype:
    """Element type of a storage class; untyped storages count bytes."""
    if isinstance(kind, Global) and kind.module in ("torch", "torch.cuda", "torch.storage"):
        if kind.name == "UntypedStorage":
            return np.dtype(np.uint8)
        if kind.name in STORAGES:
            return STORAGES[kind.name]
    raise InputError(f"storage of type {str(kind)[:80]!r}; expected one of {', '.join(STORAGES)}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _tensor(storage, offset, size, stride, *_unused) -> np.ndarray:
    """Read-only view of a storage [n]; refuses what would lie outside of it."""
    numbers = [offset, *size, *stride]
    if type(storage) is not np.ndarray or storage.ndim != 1 or not all(map(_is_count, numbers)):
        raise ValueError("a tensor that is none")
    if len(size) != len(stride) or len(size) > 32:
        raise ValueError("a tensor whose size and stride disagree")
    if 0 in size:
        return np.zeros(size, storage.dtype)
    count = 1
    for n in size:
        count *= n
    last = offset + sum((n - 1) * s for n, s in zip(size, stride))
    if last >= storage.size or count > max(storage.size, _MAX_REPEATED):
        raise InputError(f"a tensor of shape {size} reaches element {last} of a storage of {storage.size}")
    strides = tuple(s * storage.itemsize for s in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], tuple(size), strides, writeable=False)


def _parameter(data, *_unused) -> np.ndarray:
    if not isinstance(data, np.ndarray):
        raise ValueError("a parameter without a tensor")
    return data


def _from_type(function, _kind, args, *_unused) -> Any:
    """A tensor subclass, or a tensor with attributes: its tensor."""
    call = function.call if isinstance(function, Global) else None
    if call is None:
        raise ValueError("a tensor made by an unknown function")
    return call(*args)


class _Dtype(Buildable):
    """NumPy element type: a code such as `f8` and then, as state, its byte order."""

    def __init__(self, code, *_unused):
        if type(code) is not str or not re.fullmatch(r"[biufc]\d{1,2}|[SU]\d{1,6}", code):
            raise InputError(f"NumPy type {str(code)[:40]!r} in the file; expected numbers or text")
        self.dtype = np.dtype(code)

    def build(self, state):
        if state[1] not in ("<", ">", "=", "|"):
            raise ValueError("unknown byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray, Buildable):
    """A NumPy array that still waits for shape, type and bytes."""

    def build(self, state):
        _version, shape, kind, fortran, raw = state
        if type(raw) is str:
            raw = raw.encode("latin-1")
        if not isinstance(kind, _Dtype) or type(raw) is not bytes or not all(map(_is_count, shape)):
            raise ValueError("a NumPy array of objects")
        if self.size:
            # NumPy would free the bytes that others may already look at.
            raise ValueError("a NumPy array with two contents")
        complete: Any = (1, tuple(shape), kind.dtype, bool(fortran), raw)
        np.ndarray.__setstate__(self, complete)


def _array(*_unused) -> np.ndarray:
    return np.ndarray.__new__(_Array, (0,), np.uint8)


def _scalar(kind, raw) -> np.generic:
    if type(raw) is str:
        raw = raw.encode("latin-1")
    if not isinstance(kind, _Dtype) or type(raw) is not bytes or len(raw) != kind.dtype.itemsize:
        raise ValueError("a NumPy scalar that is none")
    return np.frombuffer(raw, kind.dtype)[0]


def _encode(text, encoding="utf-8") -> bytes:
    if encoding not in ("latin1", "latin-1") or type(text) is not str:
        raise ValueError("unknown encoding")
    return text.encode("latin-1")


def _plain_dict(*_factory) -> dict:
    return {}


def _size(*dims) -> tuple:
    return tuple(dims[0]) if dims else ()


def _object(kind, *_unused) -> Inert:
    """Instance of an inert class as protocols 0 and 1 write it."""
    if not isinstance(kind, Global) or kind.call is not None:
        raise ValueError("an object of a class that cannot be inert")
    return Inert(kind)


_CALLS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): _plain_dict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("torch", "Size"): _size,
    ("torch", "device"): lambda *args: ":".join(map(str, args)),
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _array,
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
    ("copyreg", "_reconstructor"): _object,
}
