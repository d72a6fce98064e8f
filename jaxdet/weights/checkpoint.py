"""Weights on disk: an Orbax directory with `weights` ({params, batch_stats}) and `config` (JSON).

A training run's checkpoints hold the same two trees under `state`, so weights can be taken from a run as well.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxdet.errors import InputError
from jaxdet.nn.functional import Tree, Variables
from jaxdet.weights import stored_config
from jaxdet.weights.optimizer import Moments


def save_weights(folder: str | os.PathLike, variables: Variables, config: dict[str, Any]) -> None:
    """Write `variables` and the resolved config (JSON values) as `folder`, whole or not at all.

    An older weights folder of that name is replaced; anything else of that name is an InputError, and so is a disk
    that cannot take them.
    """
    folder = Path(folder).absolute()
    if folder.exists() and not is_weights(folder) and (folder.is_file() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and holds no weights; choose another name")
    json.dumps(config)  # fails here rather than in a writer thread
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    tree = jax.tree.map(np.asarray, variables._asdict())
    items = ocp.args.Composite(weights=ocp.args.PyTreeSave(tree), config=ocp.args.JsonSave(config))
    try:
        with _checkpointer("weights") as checkpointer:
            checkpointer.save(partial, args=items)
        if folder.exists():
            # rename() does not replace a folder that has content.
            shutil.rmtree(folder)
        os.replace(partial, folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} could not be written ({_reason(error)})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_weights(folder: str | os.PathLike) -> tuple[Variables, dict[str, Any]]:
    """Variables as NumPy arrays, whatever devices wrote them, and the config. InputError if there are none."""
    folder = Path(folder).absolute()
    if not is_weights(folder):
        raise InputError(f"{folder} holds no weights; expected a folder made by convert or soup")
    weights, config = _restore(folder, "weights", ("params", "batch_stats"))
    return Variables(weights["params"], weights["batch_stats"]), config


def load_run(workdir: str | os.PathLike, step: int | None = None) -> tuple[Variables, dict[str, Any]]:
    """Weights of a training run's checkpoint `step` (default: the newest), averaged ones where the run has them."""
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
    """Whether `folder` looks like one that `save_weights` made."""
    return (Path(folder) / "weights").is_dir() and (Path(folder) / "config").is_dir()


def _restore(folder: Path, item: str, names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the trees `names` that the item has, as NumPy arrays, and the config."""
    try:
        with _checkpointer(item) as checkpointer:
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
    return {name: restored[item].get(name, {}) for name in shapes}, stored_config.current(restored["config"])


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
