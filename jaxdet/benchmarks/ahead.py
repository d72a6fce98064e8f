"""Programs of a config compiled ahead of time for GPUs that need not be there, and what they would cost.

Times are estimates, made by `kernels.seconds` under the assumptions that the report names.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, SingleDeviceSharding

from jaxdet.benchmarks import kernels, targets
from jaxdet.benchmarks.targets import Target
from jaxdet.errors import InputError, first_line
from jaxdet.inference import folded, programs
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.structs import Batch, Images
from jaxdet.training import setup as runs

PROGRAMS = "step", "predict", "train"
_MIB = 2**20
_FREE_FRACTION = 0.9  # of a device's memory is a program's own; CUDA, NCCL and fragments take the rest
_WEIGHTS = "variables", "table"


class Cluster(NamedTuple):
    """Devices to compile for: their description, and the abstract devices of all hosts."""

    target: Target
    devices: list[Any]
    hosts: int

    def mesh(self, num_lanes: int) -> Mesh:
        """All devices along `data`; raises InputError where they cannot divide `num_lanes`."""
        count = len(self.devices)
        if num_lanes % count:
            raise InputError(
                f"batches of {num_lanes} cannot be divided among {count} devices; "
                "make data.batch_size (--batch_sizes) a multiple of them"
            )
        return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=self.devices)


def cluster(name: str, hosts: int = 1, per_host: int = 1) -> Cluster:
    """`per_host` devices of the target `name` on each of `hosts`."""
    return Cluster(targets.find(name), targets.devices(name, hosts, per_host), hosts)


def assumptions() -> dict[str, str]:
    """Assumptions of the estimates, by name."""
    return {
        "kernel": f"max({kernels.LAUNCH_S * 1e6:g} us, arithmetic, memory), one after the other",
        "peaks": f"{kernels.REACHED:g} of arithmetic and bandwidth; float32 products in TF32 if there is one",
        "host": f"{kernels.HOST_S * 1e6:g} us for each loop or branch that the host decides, of one round",
        "exchange": f"ring, NVLink inside a host, {kernels.NETWORK / 1e9:g} GB/s a device between hosts",
        "algorithms": "chosen on the device itself, not here",
    }


def prepared(cfg: Any) -> tuple[Skeleton, Variables]:
    """The detector of `cfg` as inference runs it, in shapes."""
    build = lambda: functional.split(from_config.build(cfg, cfg.seed))  # noqa: E731
    return functional.abstract(lambda: functional.merge(*folded.prepare(*build(), on_gpu=True)))


def streamed(cfg: Any, cluster: Cluster, num_events: int) -> dict[str, Any]:
    """Reports of the streamed steps of one lane, suppression inside, by phase, and their mean over the cycle.

    A step has room for `num_events` events. Phases at which the same memories fire share a program.
    """
    skeleton, variables = prepared(cfg)
    backbone = functional.merge(skeleton, variables).backbone
    table = jax.eval_shape(partial(programs.event_table, skeleton), variables)
    carry = jax.eval_shape(lambda v: functional.merge(skeleton, v).init_carry(1), variables)
    events = programs.no_events(num_events)
    patterns = [backbone.pattern(phase) for phase in range(backbone.cycle)]
    rows = {}
    for phase in sorted(set(patterns)):
        step = jax.jit(partial(programs.stream_step, skeleton, phase), donate_argnums=2)
        rows[phase] = _report(cluster, step, variables, table, (carry,), events)
    mean = {
        key: round(sum(rows[p][key] for p in patterns) / len(patterns), 4)
        for key in ("launches", "of_weights", "host_decisions", "estimated_ms")
    }
    return {**{f"step_{phase}": row for phase, row in rows.items()}, "step_mean": mean}


def predicted(cfg: Any, cluster: Cluster, inputs: Any) -> dict[str, Any]:
    """Report of prediction on one device: `inputs` are host arrays, of events with boxes after every step."""
    skeleton, variables = prepared(cfg)
    num_lanes = len(inputs[0])
    num_steps = 1 if isinstance(inputs, Images) else inputs.step_start.shape[1] - 1
    at_step = np.tile(np.arange(num_steps, dtype=np.int32), (num_lanes, 1))

    @jax.jit
    def predict(variables, inputs, carry):
        model = functional.merge(skeleton, variables)
        return model.predict(inputs, at_step, np.zeros(num_lanes, bool), carry)

    carry = jax.eval_shape(lambda v: functional.merge(skeleton, v).init_carry(num_lanes), variables)
    return _report(cluster, predict, variables, inputs, carry)


def trained(cfg: Any, cluster: Cluster, batch: Batch) -> dict[str, Any]:
    """Report of a training step; `batch` is the batch of one process, or of all in one."""
    mesh = cluster.mesh(cfg.data.batch_size)
    run = runs.outline(cfg, mesh)
    whole = cfg.data.batch_size

    def of_all(array):
        return jax.ShapeDtypeStruct((whole, *np.shape(array)[1:]), np.asarray(array).dtype)

    batches = jax.tree.map(of_all, batch)
    row = _described(cluster, run.train_step.lower(run.state, run.carry, batches), ())
    state = _bytes(run.state, run.layout)
    lanes = whole // mesh.size
    each = (row.pop("needed_bytes") - state) / lanes
    room = _FREE_FRACTION * cluster.target.memory_bytes - state
    return {
        "parameters": run.num_parameters,
        **row,
        "kept_mib": round(state / _MIB, 1),
        "lanes_a_device": lanes,
        "lanes_that_fit": max(0, int(room / each)),
    }


def _bytes(tree: Any, layout: Any) -> int:
    sizes = jax.tree.map(lambda a, s: a.dtype.itemsize * int(np.prod(s.shard_shape(a.shape))), tree, layout)
    return sum(jax.tree.leaves(sizes))


def _compiled(lowered) -> tuple[Any, str]:
    """The compiled program, and who computes its products.

    Without a device to try tilings on, Triton finds none for some products; these are left to cuBLAS then.
    """
    try:
        return lowered.compile(), "Triton"
    except jax.errors.JaxRuntimeError:
        pass
    try:
        return lowered.compile(compiler_options={"xla_gpu_enable_triton_gemm": False}), "cuBLAS"
    except jax.errors.JaxRuntimeError as error:
        raise InputError(
            f"XLA cannot compile this program for the target: {first_line(error)}; "
            "try another device or batch"
        ) from error


def _report(cluster: Cluster, function: Callable, *arguments: Any) -> dict[str, Any]:
    on_first = SingleDeviceSharding(cluster.devices[0])

    def shape(a):
        return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=on_first)

    lowered = function.lower(*jax.tree.map(shape, arguments))  # type: ignore[attr-defined]
    row = _described(cluster, lowered, _WEIGHTS)
    del row["needed_bytes"]
    return row


def _described(cluster: Cluster, lowered, weights: tuple[str, ...]) -> dict[str, Any]:
    began = time.perf_counter()
    compiled, products = _compiled(lowered)
    found = kernels.count(compiled.as_text(), weights)
    plan = compiled.memory_analysis()
    arguments, temporaries = plan.argument_size_in_bytes, plan.temp_size_in_bytes
    needed = arguments + temporaries + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return {
        **kernels.report(found, cluster.target, len(cluster.devices), cluster.hosts),
        "arguments_mib": round(arguments / _MIB, 1),
        "temporaries_mib": round(temporaries / _MIB, 1),
        "peak_mib": round(needed / _MIB, 1),
        "of_device_memory": round(needed / cluster.target.memory_bytes, 4),
        "fits": needed <= _FREE_FRACTION * cluster.target.memory_bytes,
        "products_by": products,
        "compile_s": round(time.perf_counter() - began, 1),
        "needed_bytes": needed,
    }
