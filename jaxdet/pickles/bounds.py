"""Bounds that keep a small pickle from stalling or crashing those who read it and walk its result."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxdet.pickles.names import Global, Inert

# Containers within each other. Pickled models of torch stay below 100; Python's stack ends near 1000.
MAX_DEPTH = 256
# Characters of a key: equal keys are compared in full.
MAX_KEY = 4096
# Values that sharing may add to what the file itself has room for.
MAX_SHARED = 1 << 19

_KEY_TYPES = (str, bytes, int, float, bool, type(None), np.number, np.bool_, Global, Inert)
_CONTAINERS = (list, tuple, dict, set, frozenset, Inert)
_NUMBERS = {float, int, bool, np.float64, np.float32, np.int64}


def add_members(target: set, members: Iterable) -> None:
    """Add members to a set. Raises ValueError for those that are slow or unsafe to hash."""
    for member in members:
        _check_key(member)
        target.add(member)


def add_pairs(target: dict, pairs: Iterable) -> None:
    """Add entries to a dict. Raises ValueError for keys that are slow or unsafe to hash."""
    for key, value in pairs:
        _check_key(key)
        target[key] = value


def _check_key(key: Any) -> None:
    # Hashing a tuple walks all that is in it: deep ones overflow the stack, doubled ones never end.
    parts = key if type(key) is tuple else (key,)
    if len(parts) > 16:
        raise ValueError(f"a key of {len(parts)} parts")
    for part in parts:
        if not isinstance(part, _KEY_TYPES):
            raise ValueError(f"a {type(part).__name__} as a key")
        if isinstance(part, (str, bytes)) and len(part) > MAX_KEY:
            raise ValueError(f"a key of {len(part)} characters")
        # Integers that differ by this modulus have one hash, and many of one hash make a dict quadratic.
        if type(part) is int and abs(part) >= (1 << 61) - 1:
            raise ValueError("an integer of more than 60 bits as a key")


def check_expansion(root: Any, num_bytes: int) -> None:
    """Raise ValueError if `root` contains itself, is nested too deeply, or is too large to be walked.

    `num_bytes` is the length of its pickle. The size counts a value at every place where it is used: 1 each
    and another for 8 bytes of text. The check visits every object once and the content of arrays never.
    """
    limit = MAX_SHARED + 4 * num_bytes
    done: dict[int, tuple[int, int]] = {}  # id of a container -> its size and depth
    around: set[int] = set()  # ids of the containers around the current one
    todo: list[tuple[Any, list | None]] = [(root, None)]  # and its parts, once they are under way
    while todo:
        value, children = todo.pop()
        if id(value) in done:
            continue
        if children is not None:
            around.remove(id(value))
            size, depth = _measure(children, done)
            if size > limit:
                raise ValueError(f"shared parts that expand to more than {limit} values")
            if depth > MAX_DEPTH:
                raise ValueError(f"containers nested more than {MAX_DEPTH} deep")
            done[id(value)] = size, depth
        elif id(value) in around:
            raise ValueError("a container that contains itself")
        elif len(around) >= MAX_DEPTH:
            raise ValueError(f"containers nested more than {MAX_DEPTH} deep")
        else:
            around.add(id(value))
            children = _children(value)
            todo.append((value, children))
            todo += [(c, None) for c in children if type(c) not in _NUMBERS and isinstance(c, _CONTAINERS)]


def _measure(children: list, done: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Size and depth of a container from those of its parts."""
    size, depth = 1, 0
    for child in children:
        if type(child) in _NUMBERS:
            size += 1
        elif isinstance(child, _CONTAINERS):
            inner_size, inner_depth = done[id(child)]
            size, depth = size + inner_size, max(depth, inner_depth)
        else:
            size += 1 + (len(child) // 8 if isinstance(child, (str, bytes, bytearray)) else 0)
    return size, depth + 1


def _children(value: Any) -> list:
    if isinstance(value, Inert):
        return [value.args, value.state, value.items]
    if isinstance(value, dict):
        return [*value, *value.values(), *getattr(value, "__dict__", {}).values()]
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else []
