"""Torch state dicts to parameter trees and back: rename the key, move the axes, put it in the tree.

What differs between model families is a `Rules` value (see `families`); the leaf rule is one for all:
`weight` becomes `kernel` (rank 4: OIHW to HWIO; rank 2: transposed) or `scale` (rank 1), `running_mean` and
`running_var` become `mean` and `var` of the statistics, every other name stays.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jaxdet.errors import InputError
from jaxdet.nn.functional import Tree, Variables

StateDict = dict[str, np.ndarray]

_STATISTICS = {"running_mean": "mean", "running_var": "var", "num_batches_tracked": "num_batches_tracked"}
_TORCH_STATISTICS = {ours: theirs for theirs, ours in _STATISTICS.items()}


# Within a layer torch lists parameters first, then statistics.
LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def in_order(names: str) -> tuple[str, ...]:
    """Names separated by blanks, then those of the leaves."""
    return (*names.split(), *LEAVES)


@dataclass(frozen=True)
class Rules:
    """The names of the weights of one model family.

    `keys` are (regex, replacement) pairs applied one after another to a torch key without its leaf's
    renaming; `inverse` undoes them on a path. `ignored` are (regex for the whole key, reason): entries that
    are not weights. `derived` makes such entries from the state dict's others, for writing, and to check
    those that a file brings. `check` raises InputError for a file of the family that was made for something
    else, in the family's own terms. `order` lists sibling names in torch's order of registration, with one or
    two parents (`parent.name`) where it depends on them; numbers sort as numbers. `wrapped_in` is the entry
    of a checkpoint that holds the state dict.
    """

    name: str
    keys: tuple[tuple[str, str], ...]
    inverse: tuple[tuple[str, str], ...]
    order: tuple[str, ...]
    ignored: tuple[tuple[str, str], ...] = ()
    derived: Callable[[StateDict], StateDict] = lambda state_dict: {}
    check: Callable[[StateDict], None] = lambda state_dict: None
    wrapped_in: str = "state_dict"

    def path_of(self, key: str) -> str:
        """Dotted module path and torch leaf of a torch key."""
        return _substituted(self.keys, key)

    def key_of(self, path: str) -> str:
        """Torch key of a dotted module path with torch leaf."""
        return _substituted(self.inverse, path)

    def reason_to_ignore(self, key: str) -> str | None:
        """Reason for which an entry counts as no weight; None for a weight."""
        return next((reason for pattern, reason in self.ignored if re.fullmatch(pattern, key)), None)

    def rank(self, key: str) -> tuple[int, ...]:
        """Sort key that puts torch keys into torch's order."""
        names = key.split(".")
        return tuple(self._rank(names[: i + 1]) for i in range(len(names)))

    def _rank(self, names: list[str]) -> int:
        if names[-1].isdigit():
            return int(names[-1])
        for start in range(max(0, len(names) - 3), len(names)):
            candidate = ".".join(names[start:])
            if candidate in self.order:
                return self.order.index(candidate)
        raise InputError(f"{self.name} has no part named {names[-1]!r}; is this the right --config?")


class TensorPair(NamedTuple):
    """A tensor that was taken: its torch key, and the dotted path and shape of its leaf in the tree."""

    key: str
    path: str
    shape: tuple[int, ...]


@dataclass
class WeightsReport:
    """The fate of every torch key and of every leaf of the tree."""

    rules: str
    pairs: list[TensorPair] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)
    unused: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    misfits: dict[str, np.ndarray] = field(default_factory=dict)  # values of another shape, by path
    sensor: tuple[int, int, int] | None = None  # height, width, cell of the weights' HMNet, pixels, if known
    num_classes: int | None = None  # of the model that the weights are of, where that is known

    def text(self) -> str:
        """The pairing as lines: one per key, then what was left out and why, then a summary."""
        width = max((len(p.key) for p in self.pairs), default=0)
        lines = [f"{p.key:<{width}}  {p.path}  {list(p.shape)}" for p in self.pairs]
        lines += [f"{key:<{width}}  ignored: {reason}" for key, reason in self.ignored]
        lines += [f"{key:<{width}}  not used: {reason}" for key, reason in self.unused]
        lines += [f"{path}  keeps its initial value" for path in self.missing]
        return "\n".join([*lines, self.summary()])

    def summary(self) -> str:
        """Line with the name of the rules and the number of tensors by their fate."""
        counts = (
            (len(self.pairs), "tensors taken"),
            (len(self.ignored), "ignored by rule"),
            (len(self.unused), "not used"),
            (len(self.missing), "left as initialised"),
        )
        return f"{self.rules}: " + ", ".join(f"{n} {what}" for n, what in counts)


def from_torch(
    state_dict: StateDict, rules: Rules, target: Variables | None = None, lenient: bool = False
) -> tuple[Variables, WeightsReport]:
    """Parameter tree of a torch state dict.

    Strict: every key is used once or ignored by a rule, every leaf of `target` (arrays or shapes) is filled
    once and shapes agree; without a target the tree is what the file has. Lenient, for initialisation: what
    does not fit by name and shape keeps `target`'s value and is reported. Floating values become float32 or
    the target's type, counters int32. Raises InputError, naming the first offenders.
    """
    report, found = WeightsReport(rules.name), {}
    expected = rules.derived(state_dict)
    if not lenient:
        rules.check(state_dict)
    for key, array in state_dict.items():
        reason = rules.reason_to_ignore(key)
        if reason is not None:
            _check_derived(key, array, expected, lenient)
            report.ignored.append((key, reason))
            continue
        path, value = _from_leaf(rules.path_of(key), key, array)
        if path in found:
            raise InputError(f"{key} and {found[path][0]} both lead to {'.'.join(path)}; rules {rules.name}")
        found[path] = (key, value)
    return _fill(found, target, report, lenient), report


def fitted(
    variables: Variables, name: str, target: Variables, lenient: bool = False
) -> tuple[Variables, WeightsReport]:
    """`variables` checked against `target` as `from_torch` does; keys in the report are their own paths."""
    report = WeightsReport(name)
    found = {path: (".".join(path), np.asarray(leaf)) for path, leaf in _leaves(variables).items()}
    return _fill(found, target, report, lenient), report


def to_torch(variables: Variables, rules: Rules) -> "OrderedDict[str, np.ndarray]":
    """Inverse of `from_torch`: the state dict in torch's order, derived entries included, counters int64."""
    out: StateDict = {}
    for path, value in _leaves(variables).items():
        key, array = to_leaf(path, value)
        key = rules.key_of(key)
        if key in out:
            raise InputError(f"two leaves lead to {key}; rules {rules.name}")
        out[key] = array
    out.update(rules.derived(out))
    return OrderedDict(sorted(out.items(), key=lambda item: rules.rank(item[0])))


def _substituted(rules: tuple[tuple[str, str], ...], text: str) -> str:
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    return text


Path = tuple[str, ...]  # collection, then names
Found = dict[Path, tuple[str, np.ndarray]]  # torch key and value of each leaf


def _from_leaf(dotted: str, key: str, array: np.ndarray) -> tuple[Path, np.ndarray]:
    *parents, leaf = dotted.split(".")
    if leaf in _STATISTICS:
        return ("batch_stats", *parents, _STATISTICS[leaf]), array
    if leaf != "weight":
        return ("params", *parents, leaf), array
    if array.ndim == 4:
        return ("params", *parents, "kernel"), array.transpose(2, 3, 1, 0)
    if array.ndim == 2:
        return ("params", *parents, "kernel"), array.T
    if array.ndim == 1:
        return ("params", *parents, "scale"), array
    raise InputError(f"{key} has shape {array.shape}; expected a weight of rank 1, 2 or 4")


def to_leaf(path: Path, value: Any) -> tuple[str, np.ndarray]:
    """Dotted path with torch's leaf name, and the array in torch's layout, of one leaf of the tree."""
    collection, *parents, leaf = path
    array = np.asarray(value)
    if collection == "batch_stats":
        leaf = _TORCH_STATISTICS[leaf]
        if leaf == "num_batches_tracked":
            array = array.astype(np.int64)
    elif leaf in ("kernel", "scale"):
        leaf = "weight"
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return ".".join([*parents, leaf]), np.ascontiguousarray(array).reshape(array.shape)


def _check_derived(key: str, array: np.ndarray, expected: StateDict, lenient: bool) -> None:
    if lenient or key not in expected:
        return
    # A moving average of equal numbers rounds: averaged buffers are right to a few units in the last place.
    same = array.shape == expected[key].shape and np.allclose(array, expected[key], rtol=1e-4, atol=0)
    if not same:
        raise InputError(
            f"{key} of the file differs from the configuration's; choose the config it was trained with"
        )


def _fill(found: Found, target: Variables | None, report: WeightsReport, lenient: bool) -> Variables:
    leaves = None if target is None else _leaves(target)
    chosen = _chosen(found, leaves, report)
    _complain(report, leaves, lenient)
    if leaves is not None:
        chosen = {path: chosen.get(path, leaves[path]) for path in leaves}
    return _tree(chosen)


def _chosen(found: Found, leaves: dict[Path, Any] | None, report: WeightsReport) -> dict[Path, np.ndarray]:
    """Values of the leaves that the file fills; all else goes into the report."""
    chosen = {}
    for path, (key, value) in found.items():
        if leaves is None:
            chosen[path] = _typed(key, value, None)
        elif path not in leaves:
            report.unused.append((key, "the model has no such part"))
            continue
        elif tuple(leaves[path].shape) != value.shape:
            shapes = f"{list(value.shape)} in the file, {list(leaves[path].shape)} in the model"
            report.unused.append((key, f"shape {shapes}"))
            report.misfits[".".join(path)] = value
            continue
        else:
            chosen[path] = _typed(key, value, leaves[path].dtype)
        report.pairs.append(TensorPair(key, ".".join(path), value.shape))
    report.missing = [".".join(path) for path in leaves or {} if path not in chosen]
    return chosen


def _typed(key: str, value: np.ndarray, dtype: Any) -> np.ndarray:
    if value.dtype.kind in "iu":
        if dtype is not None and np.dtype(dtype).kind not in "iu":
            raise InputError(f"{key} holds {value.dtype}, the model expects {np.dtype(dtype)}")
        if value.size and not -(1 << 31) <= int(value.min()) <= int(value.max()) < 1 << 31:
            raise InputError(f"{key} holds a counter beyond 31 bits")
        return np.array(value, np.int32)
    return np.array(value, np.float32 if dtype is None else dtype, order="C")


def _complain(report: WeightsReport, leaves: dict[Path, Any] | None, lenient: bool) -> None:
    """Raise InputError if nothing fits, or if something does not and `lenient` is not set."""
    if not report.pairs:
        raise InputError(f"no tensor of the file belongs to {report.rules}; is this the right --config?")
    if lenient or not (report.unused or report.missing):
        return
    parts = []
    if report.unused:
        key, why = report.unused[0]
        parts.append(f"{len(report.unused)} tensors do not fit (first {key}: {why})")
    if report.missing:
        parts.append(
            f"{len(report.missing)} of {len(leaves or ())} leaves are not in it (first {report.missing[0]})"
        )
    raise InputError(
        f"the file is not for this {report.rules}: {'; '.join(parts)}; check size and class count"
    )


def _leaves(variables: Variables) -> dict[Path, Any]:
    out: dict[Path, Any] = {}

    def walk(node: Any, path: Path) -> None:
        if isinstance(node, dict):
            for name, child in node.items():
                walk(child, (*path, name))
        else:
            out[path] = node

    walk(variables.params, ("params",))
    walk(variables.batch_stats, ("batch_stats",))
    return out


def _tree(leaves: dict[Path, Any]) -> Variables:
    root: dict[str, Tree] = {"params": {}, "batch_stats": {}}
    for path, value in leaves.items():
        node = root
        for name in path[:-1]:
            node = node.setdefault(name, {})
            if not isinstance(node, dict):
                raise InputError(f"{'.'.join(path)} lies below a tensor; not a state dict of this family")
        if isinstance(node.get(path[-1]), dict):
            raise InputError(f"{'.'.join(path)} is a tensor and has parts; not a state dict of this family")
        node[path[-1]] = value
    return Variables(root["params"], root["batch_stats"])
