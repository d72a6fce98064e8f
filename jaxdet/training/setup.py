"""A run put together from its config: model, optimiser, mesh, compiled step, state."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import AbstractMesh, Mesh
from ml_collections import ConfigDict

from jaxdet import distributed, sharding
from jaxdet.errors import InputError
from jaxdet.files import atomic, stamped
from jaxdet.models import from_config
from jaxdet.nn import functional, gpu_training, winograd
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.ops import kernel_trial
from jaxdet.structs import Batch
from jaxdet.training import recipe as recipes
from jaxdet.training import state
from jaxdet.training.loop import NonFiniteLoss
from jaxdet.training.recipe import TrainingRecipe
from jaxdet.training.state import TrainState
from jaxdet.training.step import Form, TrainStep, make_train_step
from jaxdet.weights import stored_config


class Run(NamedTuple):
    """A run before its first step: the arguments of `fit`, and the numbers that the logs need."""

    skeleton: Skeleton
    mesh: Mesh
    train_step: TrainStep
    state: TrainState
    carry: Any
    schedule: optax.Schedule  # rate of an optimiser step
    segments: int  # optimiser steps per iteration
    num_steps: int
    num_parameters: int
    loss_names: tuple[str, ...]  # parts of the loss, as the logs name them


def assemble(cfg, mesh: Mesh, initial: Callable[[Variables], Variables] = lambda fresh: fresh) -> Run:
    """Build model, optimiser and compiled step; `initial` makes the first weights from fresh ones."""
    segments = num_segments(cfg.data)
    recipe = recipes.make(cfg, segments)
    model = from_config.build(cfg, cfg.seed)
    if cfg.data.kind == "events":
        check_segments(cfg.data, model.backbone.cycle)
    lanes = sharding.lanes(mesh)
    carry = jax.tree.map(lambda a: sharding.place(a, lanes), model.init_carry(cfg.data.batch_size))
    skeleton, variables = _accelerated(cfg, *functional.split(model))
    fresh = state.create(initial(variables), recipe.optimizer, recipe.averaging is not None)
    layout = sharding.by_path(fresh, mesh, cfg.sharding)
    placed = jax.tree.map(sharding.place, fresh, layout)
    carries = jax.tree.map(lambda _: lanes, carry)
    return Run(
        skeleton,
        mesh,
        compiled_step(cfg, skeleton, recipe, mesh, (layout, carries)),
        placed,
        carry,
        recipe.schedule,
        segments,
        cfg.train.num_iterations * segments,
        num_parameters(variables),
        model.head.loss_names,
    )


def compiled_step(
    cfg, skeleton: Skeleton, recipe: TrainingRecipe, mesh: Mesh | AbstractMesh, layouts
) -> TrainStep:
    """The jitted train step of a run; `layouts` are the shardings of its state and carry, both donated."""
    return jax.jit(
        make_train_step(skeleton, recipe, cfg.train.microbatches, _form(cfg, mesh)),
        in_shardings=(*layouts, sharding.lanes(mesh)),
        out_shardings=(*layouts, sharding.replicated(mesh)),
        donate_argnums=(0, 1),
    )


class Outline(NamedTuple):
    """A run in shapes: what is known of it before any array is made and any device is there."""

    train_step: Any  # jitted; to be lowered, not called
    state: TrainState
    layout: Any  # shardings of the state
    carry: Any
    num_parameters: int


def outline(cfg, mesh: Mesh | AbstractMesh) -> Outline:
    """The run that `assemble` puts together, in shapes; the devices of `mesh` need not exist."""
    recipe = recipes.make(cfg, num_segments(cfg.data))
    split = lambda: _accelerated(cfg, *functional.split(from_config.build(cfg, cfg.seed)))  # noqa: E731
    skeleton, variables = functional.abstract(lambda: functional.merge(*split()))
    averaged, lanes = recipe.averaging is not None, cfg.data.batch_size
    initial = jax.eval_shape(lambda v: state.create(v, recipe.optimizer, averaged), variables)
    carry = jax.eval_shape(lambda v: functional.merge(skeleton, v).init_carry(lanes), variables)
    layout = sharding.by_path(initial, mesh, cfg.sharding)
    carries = jax.tree.map(lambda _: sharding.lanes(mesh), carry)
    step = compiled_step(cfg, skeleton, recipe, mesh, (layout, carries))
    return Outline(step, initial, layout, carry, num_parameters(variables))


def _accelerated(cfg, skeleton: Skeleton, variables: Variables) -> tuple[Skeleton, Variables]:
    """The model as `train.fast` has it, which runs of older versions do not know; weights are the same."""
    fast = cfg.train.get("fast", False)
    return winograd.accelerate_training(skeleton, variables) if fast else (skeleton, variables)


def _form(cfg, mesh: Mesh | AbstractMesh) -> Form:
    """Function that turns a model into the equal one whose loss is taken on the devices of `mesh`."""
    whole = mesh.size == 1 or not cfg.sharding  # each device has all weights
    if whole and isinstance(mesh, Mesh) and mesh.devices.flat[0].platform == "gpu":
        is_planned = jax.default_backend() != "gpu"  # for devices that are not there
        if kernel_trial.wanted() if is_planned else all(distributed.gather(kernel_trial.usable(), bool)):
            return partial(gpu_training.in_few_kernels, mesh=mesh)
    return lambda skeleton, variables: (skeleton, variables)


def num_segments(data) -> int:
    """Optimiser steps per iteration: the segments of a window, one for still images."""
    return 1 if data.kind == "images" else max(1, data.window_ms // data.segment_ms)


def resolve_epochs(cfg, steps_per_epoch: int) -> None:
    """Turn what `cfg.train` counts in epochs into iterations and optimiser steps of the open data set."""
    train, iterations = cfg.train, steps_per_epoch // num_segments(cfg.data)
    if not train.epochs:
        return
    train.iterations_per_epoch, train.num_iterations = iterations, train.epochs * iterations
    for name in ("checkpoint", "evaluate", "keep"):
        epochs = train[f"{name}_epochs"]
        if epochs:
            train[f"{name}_every"] = epochs * steps_per_epoch
    if cfg.data.get("plain_epochs"):
        cfg.data.plain_from = max(1, (train.epochs - cfg.data.plain_epochs) * steps_per_epoch)


def check_segments(data, cycle: int) -> None:
    """Raise InputError unless segments are a multiple of the memories' firing cycle of `cycle` steps."""
    steps = 1000 * data.segment_ms // data.step_us
    if num_segments(data) > 1 and steps % cycle:
        raise InputError(
            f"segments of {steps} steps are not a multiple of the memories' firing cycle of {cycle} "
            "steps; change data.segment_ms"
        )


def device_batches(batches: Iterator[Batch], mesh: Mesh) -> Iterator[Batch]:
    """Host batches of this process -> global batches on the mesh."""
    return (sharding.to_global(batch, mesh) for batch in batches)


def num_parameters(variables: Variables) -> int:
    """Trained numbers of a model, of which `variables` may hold the shapes only."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables.params))


def save_offending_batch(workdir: Path, error: NonFiniteLoss) -> Path:
    """Write the batch whose loss was not finite to `<workdir>/nonfinite_step_<n>.npz`."""
    path = workdir / f"nonfinite_step_{error.step}.npz"
    leaves = jax.tree_util.tree_leaves_with_path(sharding.to_host(error.batch))
    if not distributed.is_main():
        return path
    with atomic(path) as temporary:
        np.savez(temporary, **{sharding.path_of(p): leaf for p, leaf in leaves})
    return path


def write_config(cfg, workdir: Path, version: str) -> None:
    """The resolved config and the version, as `<workdir>/config.json`; process 0 writes."""
    if not distributed.is_main():
        return
    with atomic(workdir / "config.json") as temporary:
        temporary.write_text(json.dumps(stamped({"version": version, **as_json(cfg)}), indent=2))


def read_config(workdir: Path) -> Any | None:
    """The config that `write_config` left in `workdir`, None if there is none."""
    path = workdir / "config.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content.pop("version")
        return ConfigDict(stored_config.current(content, path))
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the config of a run ({error}); give --config") from error


def as_json(cfg) -> dict[str, Any]:
    """A config as plain JSON values."""
    return json.loads(cfg.to_json_best_effort())


def memory_estimate(run: Run, batch: Batch) -> int:
    """Bytes one device needs for a step: arguments and temporaries, as the compiler plans them."""
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (run.state, run.carry, batch))
    plan = run.train_step.lower(*shapes).compile().memory_analysis()
    return plan.argument_size_in_bytes + plan.temp_size_in_bytes
