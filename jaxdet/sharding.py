"""One mesh, shardings by path, and global arrays from each process's own data."""

import logging
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdet.errors import InputError

logger = logging.getLogger(__name__)

Rules = Sequence[tuple[str, Sequence[str | None]]]


def make_mesh(num_lanes: int, devices: Sequence[Any] | None = None) -> Mesh:
    """`devices` (default: those of all processes) along one axis, `data`, for batches of `num_lanes`.

    A single process leaves devices out where the lanes cannot be divided among all; several processes raise
    InputError.
    """
    devices = list(devices or jax.devices())
    num = math.gcd(len(devices), num_lanes)
    if num < len(devices):
        found = f"batches of {num_lanes} cannot be divided among {len(devices)} devices"
        if jax.process_count() > 1:
            raise InputError(f"{found}; make data.batch_size a multiple of the devices")
        logger.warning("%s: %d of them are used; change data.batch_size", found, num)
        devices = devices[:num]
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def is_single() -> bool:
    """True if one process with one device has everything."""
    return jax.device_count() == 1


def can_run_ahead() -> bool:
    """True if devices may be given a step before the one before it ended.

    Several devices of a CPU share its threads, and programs that wait for each other there can block.
    """
    return is_single() or jax.default_backend() != "cpu"


def lanes(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Batches and carries: the leading axis over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def path_of(key_path) -> str:
    """Dotted path of a leaf: `params.backbone.memory1.init_latent`."""
    return ".".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in key_path)


def by_path(tree: Any, mesh: Mesh | AbstractMesh, rules: Rules) -> Any:
    """Shardings of `tree` (arrays or shapes): the first rule whose regex matches the dotted path decides.

    A rule is (regex, axes of the array from the first on). The axis name "data" in place of a tuple of axes
    means fully sharded: over the largest axis that the mesh divides, replicated where there is none.
    """

    def sharding(key_path, leaf):
        path = path_of(key_path)
        for pattern, spec in rules:
            if re.search(pattern, path):
                return NamedSharding(mesh, _partition(leaf, mesh, spec))
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(sharding, tree)


def _partition(leaf, mesh, spec) -> PartitionSpec:
    if spec != "data":
        return PartitionSpec(*spec[: leaf.ndim])
    divisible = [(size, axis) for axis, size in enumerate(leaf.shape) if size % mesh.size == 0 and size > 0]
    if not divisible:
        return PartitionSpec()
    axis = max(divisible)[1]
    return PartitionSpec(*(None,) * axis, "data")


def place(leaf: Any, layout: NamedSharding) -> jax.Array:
    """An array that every process has whole -> its parts on the devices."""
    whole = np.asarray(leaf)
    # A view would share memory with `leaf`, which the first step gives away.
    return jax.make_array_from_callback(whole.shape, layout, lambda part: np.array(whole[part]))


def to_global(tree: Any, mesh: Mesh) -> Any:
    """Host arrays that hold this process's lanes -> global arrays sharded over `data`."""
    sharding = lanes(mesh)
    return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, np.asarray(a)), tree)


def to_host(tree: Any) -> Any:
    """Global arrays -> numpy arrays that hold every lane, on every process."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)
