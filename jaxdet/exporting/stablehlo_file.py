"""A StableHLO file of a program, which JAX alone loads and runs on CPU, CUDA, ROCm and TPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax import export

from jaxdet.exporting.programs import Program
from jaxdet.files import atomic

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def write(path: Path, program: Program, raw: bool) -> None:
    """Write a file that maps a dict of the inputs to a dict of the outputs."""
    function = jax.jit(program.raw if raw else program.detect)
    exported = export.export(function, platforms=PLATFORMS)(dict(program.inputs))
    with atomic(path) as temporary:
        temporary.write_bytes(exported.serialize())


def read(path: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function that a file holds, compiled at its first call."""
    return jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
