"""The only values that names in a torch file may become: tensors, containers, NumPy values, inert stubs."""

import math
import re
from collections import OrderedDict
from typing import Any

import ml_dtypes
import numpy as np

from jaxdet.errors import InputError
from jaxdet.pickles import Global, Inert, Names, tables
from jaxdet.pickles.bounds import add_pairs

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
_BUILTIN_TYPES = {"int", "float", "bool", "str", "complex", "list", "dict", "tuple", "object", "type"}

# A view may repeat its storage (stride 0), but not turn a small file into a huge array.
_MAX_REPEATED = 1 << 24


def _is_inert(module: str, name: str) -> bool:
    if module == "builtins":
        return name in _BUILTIN_TYPES
    return module == "__main__" or _INERT.fullmatch(module) is not None


def storage_type(kind: Any) -> np.dtype:
    """Element type of a storage class; untyped storages count bytes."""
    if isinstance(kind, Global) and kind.module in ("torch", "torch.cuda", "torch.storage"):
        if kind.name == "UntypedStorage":
            return np.dtype(np.uint8)
        if kind.name in STORAGES:
            return STORAGES[kind.name]
    found = str(kind)[:80] if isinstance(kind, Global) else type(kind).__name__
    raise InputError(f"storage of type {found}; expected one of {', '.join(STORAGES)}")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_unused: Any) -> np.ndarray:
    """Read-only view of a storage [n]; refuses what would lie outside of it."""
    if type(size) is not tuple or type(stride) is not tuple or len(size) > 32 or len(size) != len(stride):
        raise ValueError("a tensor whose size and stride disagree")
    numbers = [offset, *size, *stride]
    if type(storage) is not np.ndarray or storage.ndim != 1 or not all(map(tables.is_count, numbers)):
        raise ValueError("a tensor without a storage or with negative numbers")
    if 0 in size:
        return np.zeros(size, storage.dtype)
    count = math.prod(size)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride))
    if last >= storage.size or count > max(storage.size, _MAX_REPEATED):
        raise InputError(f"a tensor of shape {size} reaches element {last} of a storage of {storage.size}")
    strides = tuple(s * storage.itemsize for s in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], tuple(size), strides, writeable=False)


def _parameter(data: Any, *_unused: Any) -> np.ndarray:
    if not isinstance(data, np.ndarray):
        raise ValueError("a parameter without a tensor")
    return data


def _from_type(function: Any, _kind: Any, args: Any, *_unused: Any) -> Any:
    """A tensor subclass, or a tensor with attributes: its tensor."""
    call = function.call if isinstance(function, Global) else None
    if call is None or call not in (_tensor, _parameter):
        raise ValueError("a tensor made by an unknown function")
    return call(*args)


def _plain_dict(*_factory: Any) -> dict:
    return {}


def _ordered_dict(pairs: Any = ()) -> OrderedDict:
    """Python 2 hands the entries over, as a list of lists."""
    made: OrderedDict = OrderedDict()
    if type(pairs) not in (list, tuple) or not all(type(p) in (list, tuple) for p in pairs):
        raise ValueError("an ordered dict that is not made from pairs")
    add_pairs(made, pairs)
    return made


def _size(dims: Any = ()) -> tuple:
    if type(dims) not in (list, tuple):
        raise ValueError("a torch.Size without dimensions")
    return tuple(dims)


def _device(*parts: Any) -> str:
    if not all(type(part) in (str, int) for part in parts):
        raise ValueError("a device without a name")
    return ":".join(map(str, parts))


def _object(kind: Any, *_unused: Any) -> Inert:
    """Instance of an inert class as protocols 0 and 1 write it."""
    if not isinstance(kind, Global) or kind.call is not None:
        raise ValueError("an object of a class that cannot be inert")
    return Inert(kind)


NAMES = Names(
    calls={
        **tables.CONTAINERS,
        **tables.ARRAYS,
        ("numpy", "dtype"): tables.AnyDtype,
        ("collections", "OrderedDict"): _ordered_dict,
        ("collections", "defaultdict"): _plain_dict,
        ("torch", "Size"): _size,
        ("torch", "device"): _device,
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
        ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
        ("copyreg", "_reconstructor"): _object,
    },
    is_inert=_is_inert,
    expected="tensors, containers and classes of known modules",
    advice="if you trust its origin, save it anew as a plain state dict",
)
