"""Find the state dict in whatever a released file wraps around it."""

from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np

from jaxdet.errors import InputError
from jaxdet.pickles import Inert

_MAX_DEPTH = 64
_MAX_KEY = 4096


@dataclass
class Contents:
    """A checkpoint taken apart: the state dict in file order, how it was wrapped, and what lay beside it.

    `extras` holds plain attributes of a pickled model (`yaml`, `nc`, `names`, `stride`) and the remaining
    entries of the checkpoint (`epoch`, `optimizer`, `scaler`, ...).
    """

    state_dict: dict[str, np.ndarray]
    layout: str
    extras: dict[str, Any] = field(default_factory=dict)


def find(value: Any) -> Contents:
    """State dict of a loaded torch file: bare, under `state_dict`, or under `model` (perhaps pickled).

    A Lightning checkpoint is of the second kind. Raises InputError if none of these is there.
    """
    if _is_state_dict(value):
        return Contents(dict(value), "bare state dict")
    if isinstance(value, Inert):
        return Contents(flatten(value), f"pickled {value.kind}", _attributes(value))
    if isinstance(value, dict):
        for name in ("state_dict", "model"):
            inner = value.get(name)
            if _is_state_dict(inner):
                found = Contents(dict(inner), f"state dict under {name!r}")
            elif isinstance(inner, Inert):
                found = Contents(flatten(inner), f"pickled {inner.kind} under {name!r}", _attributes(inner))
            else:
                continue
            found.extras.update((str(k), v) for k, v in value.items() if k != name)
            return found
    shown = f"entries {[str(k)[:40] for k in value][:6]}" if isinstance(value, dict) else type(value).__name__
    raise InputError(
        f"no weights found ({shown}); expected a state dict, or one under 'state_dict' or 'model'"
    )


def flatten(module: Inert) -> dict[str, np.ndarray]:
    """State dict of a pickled module in torch's order: parameters, persistent buffers, then children."""
    out: dict[str, np.ndarray] = {}
    _flatten(module, "", out, 0)
    if not out:
        raise InputError(f"the pickled {module.kind} holds no tensors")
    return out


def _flatten(module: Inert, prefix: str, out: dict[str, np.ndarray], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise InputError(f"pickled modules nested more than {_MAX_DEPTH} deep")
    if len(prefix) > _MAX_KEY:
        raise InputError(f"a name of more than {_MAX_KEY} characters in the pickled model")
    transient = module.state.get("_non_persistent_buffers_set", ())
    if not isinstance(transient, (set, frozenset, tuple, list)):
        raise InputError("_non_persistent_buffers_set of a pickled module is not a set")
    transient = {name for name in transient if isinstance(name, str)}
    own = {**_entries(module, "_parameters"), **_entries(module, "_buffers")}
    for name, value in own.items():
        if value is None or name in transient:
            continue
        if not isinstance(value, np.ndarray) or prefix + name in out:
            raise InputError(
                f"entry {(prefix + name)[:120]!r} of the pickled model is not a tensor of its own"
            )
        out[prefix + name] = value
    for name, child in _entries(module, "_modules").items():
        if isinstance(child, Inert):
            _flatten(child, f"{prefix}{name}.", out, depth + 1)
        elif child is not None:
            raise InputError(f"entry {(prefix + name)[:120]!r} of the pickled model is not a module")


def _entries(module: Inert, name: str) -> dict[str, Any]:
    entries = module.state.get(name, {})
    if not isinstance(entries, dict) or not all(isinstance(k, str) for k in entries):
        raise InputError(f"{name} of the pickled {module.kind} is not a dict of names")
    return entries


def _attributes(module: Inert) -> dict[str, Any]:
    return {str(k): v for k, v in module.state.items() if str(k)[:1] != "_" and k != "training"}


def _is_state_dict(value: Any) -> TypeGuard[dict[str, np.ndarray]]:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(k, str) for k in value)
        and all(isinstance(v, np.ndarray) for v in value.values())
    )
