"""Flags and variables for XLA and NCCL, and the folders of jaxdet's caches."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jaxdet.files import atomic

# Defaults; a variable that is set already stays.
VARIABLES = {
    "NCCL_DEBUG": "WARN",  # says which peer and interface failed
    "NCCL_IB_TIMEOUT": "22",  # 17 s in place of 1: a busy switch is no failure
}
# Gradients are reduced while the backward pass goes on.
GPU_FLAGS = ("--xla_gpu_enable_latency_hiding_scheduler=true",)


def user_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of all that jaxdet keeps for the user between runs."""
    home = environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "jaxdet"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of compiled programs, and of the list of flags that XLA knows."""
    if environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(environ["JAX_COMPILATION_CACHE_DIR"])
    return user_folder(environ) / "xla"


def prepare(environ) -> list[str]:
    """Set variables and XLA flags before JAX starts its devices; returns the flags this XLA does not know.

    Flags come from `GPU_FLAGS`, where a GPU plugin is installed and not switched off, and from
    JAXDET_XLA_FLAGS. An unknown flag would kill the process, so a child tries them first; the verdict is kept
    per version of jaxlib.
    """
    on_gpu = _has_gpu_plugin() and environ.get("JAX_PLATFORMS", "") != "cpu"
    for name, value in VARIABLES.items() if on_gpu else ():
        environ.setdefault(name, value)
    wanted = [*(GPU_FLAGS if on_gpu else ()), *environ.get("JAXDET_XLA_FLAGS", "").split()]
    present = environ.get("XLA_FLAGS", "")
    names = {flag.split("=")[0] for flag in present.split()}
    wanted = [flag for flag in wanted if flag.split("=")[0] not in names]
    if not wanted:
        return []
    known = probed(wanted, cache_folder(environ))
    environ["XLA_FLAGS"] = " ".join([present, *known]).strip()
    return [flag for flag in wanted if flag not in known]


def probed(
    flags: Sequence[str], folder: Path, accepts: Callable[[list[str]], bool] | None = None
) -> list[str]:
    """Those of `flags` that XLA takes; `folder` keeps what was found out, if it can be written."""
    import jaxlib

    accepts = accepts or _accepts
    path = folder / f"xla_flags_{jaxlib.__version__}.json"
    known = _known(path)
    new = [flag for flag in flags if flag not in known]
    if new:
        together = accepts(new)
        known |= {flag: together or accepts([flag]) for flag in new}
        # Without a cache the next start asks again.
        with contextlib.suppress(OSError), atomic(path) as temporary:
            temporary.write_text(json.dumps(known))
    return [flag for flag in flags if known[flag]]


def _known(path: Path) -> dict[str, bool]:
    """Flags of the cache and whether XLA takes them; none where the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {flag: taken for flag, taken in content.items() if isinstance(taken, bool)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _accepts(flags: list[str]) -> bool:
    environ = {**os.environ, "XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    return subprocess.run(command, env=environ, capture_output=True).returncode == 0


def _has_gpu_plugin() -> bool:
    return any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))
