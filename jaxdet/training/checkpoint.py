"""Checkpoints of a run: everything needed to resume it exactly."""

import logging
import os
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxdet import distributed, files, folders
from jaxdet.errors import InputError
from jaxdet.nn.functional import Variables
from jaxdet.sharding import path_of
from jaxdet.training.average import Average
from jaxdet.training.state import TrainState
from jaxdet.weights import broken_access

logger = logging.getLogger(__name__)
_KIND = "checkpoints"  # in the marker of the folder


class RunCheckpoints:
    """Numbered checkpoints in `<workdir>/checkpoints`: state, carry and config; never half visible.

    The position in the data and the random keys follow from the step and the config. `keep` newest are kept
    and, if `keep_every` > 0, every one whose step it divides.
    """

    def __init__(self, workdir: Path, config: dict[str, Any], keep: int = 3, keep_every: int = 0):
        self.folder, self.config = workdir.absolute() / "checkpoints", config
        if distributed.is_main() and not os.path.lexists(self.folder):
            folders.begin(self.folder, _KIND)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, keep_period=keep_every or None, enable_async_checkpointing=False, create=True
        )
        self.manager = ocp.CheckpointManager(self.folder, options=options)

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint that process 0 sees: a shared disk may show others less."""
        return distributed.gather(self.manager.latest_step())[0]

    def save(self, step: int, state: TrainState, carry: Any) -> None:
        """Write checkpoint `step`; raises InputError when it cannot be written, older ones stay whole."""
        if step == self.latest():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(_as_dict(state, carry)),
            config=ocp.args.JsonSave(files.stamped(self.config)),
        )
        try:
            with broken_access.quietly():
                self.manager.save(step, args=items)
                self.manager.wait_until_finished()
        except (OSError, ValueError) as error:
            self._remove_partial(step)
            last = self.manager.latest_step()  # not latest(): the others may not fail with this process
            good = "there is none yet" if last is None else f"the last good one is step {last}"
            raise InputError(
                f"{self.folder}: checkpoint {step} could not be written ({_reason(error)}); {good}; "
                "make room and run the same command again"
            ) from error

    def restore(self, state: TrainState, carry: Any, step: int | None = None) -> tuple[TrainState, Any]:
        """State and carry of checkpoint `step` (default: newest), shaped and sharded like the examples.

        The number of processes and devices may differ from the run that saved it.
        """
        step = step if step is not None else self.latest()
        target = jax.tree.map(_abstract, _as_dict(state, carry))
        self._check_shapes(step, target)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        try:
            with broken_access.quietly():
                restored = self.manager.restore(step, args=args)
        except (OSError, ValueError, KeyError) as error:
            raise self._damaged(step, error) from error
        return _from_dict(restored["state"], state, carry)

    def _check_shapes(self, step: int | None, target: dict[str, Any]) -> None:
        """Before anything is read: a read that Orbax breaks off leaves others behind that fail one by one."""
        folder: Any = self.folder / str(step) / "state"
        try:
            with broken_access.quietly():
                tree = ocp.PyTreeCheckpointHandler().metadata(folder).tree
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(step, error) from error
        found, wanted = _shapes(tree), _shapes(target)
        differ = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
        if differ:
            name = differ[0]
            raise InputError(
                f"{self.folder}: checkpoint {step} is of another model or optimiser: {len(differ)} arrays "
                f"differ, first {name}, {found.get(name, 'none')} there and {wanted.get(name, 'none')} here; "
                "give the config it was trained with, or another --workdir"
            )

    def _damaged(self, step: int | None, error: Exception) -> InputError:
        return InputError(
            f"{self.folder}: checkpoint {step} is damaged ({_reason(error)}); move {self.folder / str(step)} "
            "away to go on from an older one, or give another --workdir"
        )

    def close(self) -> None:
        self.manager.close()

    def _remove_partial(self, step: int) -> None:
        for path in self.folder.glob(f"{step}.orbax-checkpoint-tmp*"):
            try:
                folders.remove_inside(self.folder, _KIND, path)
            except (OSError, InputError) as error:
                logger.warning("%s stays: %s", path, error)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:200] + " ..."


def _shapes(tree) -> dict[str, tuple[int, ...]]:
    return {path_of(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _abstract(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))


def _as_dict(state: TrainState, carry) -> dict[str, Any]:
    weights = {"params": state.params, "batch_stats": state.batch_stats, "step": state.step}
    if state.ema is not None:
        weights["ema"] = state.ema.variables._asdict()
        weights["ema_updates"] = state.ema.updates
    return {**weights, "opt_state": _flat(state.opt_state), "carry": _flat(carry)}


def _from_dict(values, state: TrainState, carry) -> tuple[TrainState, Any]:
    ema = Average(Variables(**values["ema"]), values["ema_updates"]) if "ema" in values else None
    opt_state = _unflat(values["opt_state"], state.opt_state)
    restored = TrainState(values["params"], values["batch_stats"], ema, opt_state, values["step"])
    return restored, _unflat(values["carry"], carry)


def _flat(tree) -> dict[str, Any]:
    """Leaves by dotted path: independent of the tuple classes in between."""
    return {path_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _unflat(leaves: dict[str, Any], example):
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[path_of(path)], example)
