"""Weights on disk: an Orbax directory with `weights` ({params, batch_stats}) and `config` (JSON).

A training run's checkpoints hold the same two trees under `state`, so weights can be taken from a run as
well.
"""

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxdet import files, folders
from jaxdet.errors import InputError
from jaxdet.nn.functional import Tree, Variables
from jaxdet.weights import broken_access, stored_config
from jaxdet.weights.optimizer import Moments

_KIND = "weights"  # in the marker of the folder
# What Orbax writes into a folder of weights, by the part of it.
_WRITTEN = {
    "": re.compile(r"weights|config|_CHECKPOINT_METADATA|commit_success\.txt"),
    "config": re.compile(r"metadata|commit_success\.txt"),
    "weights": re.compile(
        r"_METADATA|_sharding|array_metadatas|commit_success\.txt|d|manifest\.ocdbt|ocdbt\.process_\d+"
    ),
}


def save_weights(folder: str | os.PathLike, variables: Variables, config: dict[str, Any]) -> None:
    """Write `variables` and the resolved config (JSON values) as `folder`, whole or not at all.

    An older weights folder of that name is replaced and whole until the new one stands; anything else of that
    name is an InputError, and so is a disk that cannot take them. What a killed call left is removed by the
    next one.
    """
    folder = Path(folder).absolute()
    folders.check_own(folder, _KIND, _made_before)
    json.dumps(config)  # fails here rather than in a writer thread
    # Orbax works under names of its own beside its target: all of it lies in one folder that is ours.
    scratch = folder.with_name(f".{folder.name}.{_writer(os.getpid())}.partial")
    tree = jax.tree.map(np.asarray, variables._asdict())
    items = ocp.args.Composite(
        weights=ocp.args.PyTreeSave(tree), config=ocp.args.JsonSave(files.stamped(config))
    )
    try:
        _remove_leftovers(folder)
        folders.begin(scratch, _KIND)
        with broken_access.quietly(), _checkpointer("weights") as checkpointer:
            checkpointer.save(scratch / "new", args=items)
        folders.finish(scratch / "new", _KIND)
        folders.replace_own(scratch / "new", folder, _KIND, _made_before)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} could not be written ({_reason(error)}); make room there, or choose another folder"
        ) from error
    finally:
        folders.discard(scratch, _KIND)


def _writer(process: int) -> str:
    # Hosts and containers that share a disk have equal process ids.
    return f"{socket.gethostname()}.{process}"


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes of this host left beside `folder`; that of living ones stays."""
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.{re.escape(_writer(0)[:-1])}(\d+)\.partial")
    for path in folder.parent.glob(".*.partial"):
        match = pattern.fullmatch(path.name)
        if match and not _lives(int(match[1])) and folders.is_own(path, _KIND):
            folders.remove_own(path, _KIND)


def _lives(process: int) -> bool:
    if process == os.getpid():
        return False  # its earlier calls are over
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is another user's
    return True


def _made_before(folder: Path) -> bool:
    """True if `save_weights` of version 0.1.0, which left no marker, made all that is in the folder."""
    if not is_weights(folder):
        return False
    for part, written in _WRITTEN.items():
        if not all(written.fullmatch(entry.name) for entry in (folder / part).iterdir()):
            return False
    try:
        handlers = json.loads((folder / "_CHECKPOINT_METADATA").read_text())["item_handlers"]
        return set(handlers) == {"weights", "config"}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def load_weights(folder: str | os.PathLike) -> tuple[Variables, dict[str, Any]]:
    """Variables as NumPy arrays, and the config; raises InputError if the folder holds no weights."""
    folder = Path(folder).absolute()
    if not is_weights(folder):
        raise InputError(f"{folder} holds no weights; expected a folder made by convert or soup")
    weights, config = _restore(folder, "weights", ("params", "batch_stats"))
    return Variables(weights["params"], weights["batch_stats"]), config


def load_run(workdir: str | os.PathLike, step: int | None = None) -> tuple[Variables, dict[str, Any]]:
    """Weights (averaged if the run has them) and config of a run's checkpoint `step` (default: newest)."""
    state, config = _restore(_checkpoint(workdir, step), "state", ("params", "batch_stats", "ema"))
    weights = state.get("ema", state)
    return Variables(weights["params"], weights["batch_stats"]), config


def _checkpoint(workdir: str | os.PathLike, step: int | None) -> Path:
    folder = Path(workdir).absolute() / "checkpoints"
    steps = sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())
    if not steps or (step is not None and step not in steps):
        found = f"checkpoints {steps[:8]}" if steps else "no checkpoints"
        raise InputError(f"{workdir} has {found}, expected {'one' if step is None else step}")
    return folder / str(steps[-1] if step is None else step)


def load_moments(workdir: str | os.PathLike, step: int | None = None) -> Moments | None:
    """Adam's state in a training run's checkpoint, None if its optimiser has none."""
    state, _ = _restore(_checkpoint(workdir, step), "state", ("opt_state",))
    leaves = state["opt_state"]
    trees: dict[str, Tree] = {"mu": {}, "nu": {}}
    count = None
    for key, leaf in leaves.items():
        found = re.match(r"(?:.*?\.)?(mu|nu|count)(?:\.(.+))?$", key)
        if found and found[2]:
            _put(trees[found[1]], found[2].split("."), leaf)
        elif found and count is None:  # the schedule's count, further down, is the same number
            count = int(leaf)
    return Moments(trees["mu"], trees["nu"], count) if trees["nu"] and count is not None else None


def _put(tree: Tree, names: list[str], leaf: np.ndarray) -> None:
    for name in names[:-1]:
        tree = tree.setdefault(name, {})
    tree[names[-1]] = leaf


def is_weights(folder: str | os.PathLike) -> bool:
    """True if `folder` looks like one that `save_weights` made."""
    return (Path(folder) / "weights").is_dir() and (Path(folder) / "config").is_dir()


def _restore(folder: Path, item: str, names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the trees `names` that the item has, as NumPy arrays, and the config."""
    try:
        with broken_access.quietly(), _checkpointer(item) as checkpointer:
            tree = getattr(checkpointer.metadata(folder).item_metadata, item).tree
            shapes = {
                name: jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree[name])
                for name in names
                if name in tree
            }
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
            weights = ocp.args.PyTreeRestore(shapes, restore_args=as_numpy, partial_restore=True)
            items = ocp.args.Composite(**{item: weights, "config": ocp.args.JsonRestore()})
            restored = checkpointer.restore(folder, args=items)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: damaged weights ({_reason(error)}); convert or train again") from error
    return {name: restored[item].get(name, {}) for name in shapes}, stored_config.current(
        restored["config"], folder
    )


def _checkpointer(item: str) -> ocp.Checkpointer:
    """Reads or writes for this process by itself: the others of a job have no part in it."""
    if jax.process_count() == 1:
        alone = ocp.options.MultiprocessingOptions()
    else:
        own = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})
    handlers = {
        item: ocp.PyTreeCheckpointHandler(multiprocessing_options=alone),
        "config": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
    }
    composite = ocp.CompositeOptions(multiprocessing_options=alone)
    handler = ocp.CompositeCheckpointHandler(composite_options=composite, **handlers)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
