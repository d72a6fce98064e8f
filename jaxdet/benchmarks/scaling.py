"""Scaling of a training step with the number of devices: time, communication and memory."""

import math
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType

from jaxdet import sharding
from jaxdet.benchmarks import kernels
from jaxdet.structs import Batch
from jaxdet.training import setup as runs
from jaxdet.training import state


class Point(NamedTuple):
    """Measurements of a training step on a number of devices; times are medians."""

    devices: int
    lanes: int
    step_ms: float
    reduce_ms: float  # time to sum the gradients over the devices alone; 0 on one device
    collectives: int  # collective operations of the compiled step
    collective_bytes: int
    temporary_bytes: int  # temporaries of the compiled step, per device
    held_bytes: dict[str, int]  # measured on one device, with the names of `memory_plan`


def measure(cfg: Any, num_devices: int, host_batch: Batch, repeats: int) -> Point:
    """Time the compiled step of `cfg` on the first `num_devices` devices.

    `host_batch` holds the lanes of this process, of the `cfg.data.batch_size` in all. The median of `repeats`
    runs counts.
    """
    devices = jax.devices()[:num_devices]
    mesh = sharding.make_mesh(cfg.data.batch_size, devices)
    run = runs.assemble(cfg, mesh)
    batch = sharding.to_global(host_batch, mesh)
    compiled: Any = run.train_step.lower(run.state, run.carry, batch).compile()
    exchanged = kernels.count(compiled.as_text()).collectives.values()
    held = _held(run.state, run.carry)
    reduce_s = _median([_reduction(run.state.params, mesh)] * repeats) if mesh.size > 1 else 0.0
    current, carry = run.state, run.carry

    def step() -> Any:
        nonlocal current, carry
        current, carry, metrics = compiled(current, carry, batch)
        return metrics

    step_s = _median([step] * repeats)
    return Point(
        mesh.size,
        cfg.data.batch_size,
        1e3 * step_s,
        1e3 * reduce_s,
        sum(calls for calls, _ in exchanged),
        sum(size for _, size in exchanged),
        compiled.memory_analysis().temp_size_in_bytes,
        held,
    )


def memory_plan(cfg: Any, num_devices: int) -> dict[str, int]:
    """Planned bytes per device of what is kept between steps, by kind; the devices need not exist."""
    mesh = AbstractMesh((num_devices,), ("data",), axis_types=(AxisType.Auto,))
    run = runs.outline(cfg, mesh)
    initial, layout = run.state, run.layout

    def of(tree, layouts) -> int:
        shapes = jax.tree.map(
            lambda a, s: a.dtype.itemsize * math.prod(s.shard_shape(a.shape)), tree, layouts
        )
        return sum(jax.tree.leaves(shapes))

    return {
        "parameters": of(initial.params, layout.params),
        "optimizer": of(initial.opt_state, layout.opt_state),
        "statistics": of(initial.batch_stats, layout.batch_stats),
        "averages": of(initial.ema, layout.ema),
        "carry": of(run.carry, jax.tree.map(lambda _: sharding.lanes(mesh), run.carry)),
    }


def _held(current: state.TrainState, carry) -> dict[str, int]:
    """Measured bytes on the first device of this process, with the names of `memory_plan`."""

    def of(tree) -> int:
        return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))

    parts = current.params, current.opt_state, current.batch_stats, current.ema, carry
    names = "parameters", "optimizer", "statistics", "averages", "carry"
    return {name: of(part) for name, part in zip(names, parts, strict=True)}


def _reduction(params, mesh):
    """Function that sums as many numbers as there are parameters over the devices."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    own = np.zeros((len(mesh.local_devices), count), np.float32)
    parts = sharding.to_global(own, mesh)
    total = jax.jit(lambda a: a.sum(0), out_shardings=sharding.replicated(mesh))
    return lambda: total(parts)


def _median(works) -> float:
    """Median seconds of the calls in `works`, after an extra first call that does not count."""
    times = []
    for work in [works[0], *works]:
        began = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - began)
    return float(np.median(times[1:]))
