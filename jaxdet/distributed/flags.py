"""Flags and variables for XLA and NCCL, and the folders of jaxdet's caches."""

import contextlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, MutableMapping, Sequence
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


def prepare(environ: MutableMapping[str, str]) -> list[str]:
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


def keep_compiled() -> None:
    """Keep compiled programs between runs, in the folder that JAX_COMPILATION_CACHE_DIR names or a default.

    Only if jax is imported already; a folder that cannot be written is said in a line.
    """
    jax = sys.modules.get("jax")
    if jax is None:
        return
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # The many small programs that make fresh weights take a third of the start of a large model.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    # A damaged entry is compiled again; the warning says so in three lines of JAX's own code.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(cache_folder())
    if not _takes_files(folder):
        logging.warning(
            "%s: not a folder that can be written, so programs are compiled at every start; "
            "set JAX_COMPILATION_CACHE_DIR to one of yours",
            folder,
        )
        jax.config.update("jax_enable_compilation_cache", False)
        return
    jax.config.update("jax_compilation_cache_dir", folder)


def _takes_files(folder: str) -> bool:
    """True for a folder that can be written, which is made if it is not there, and for addresses."""
    if "://" in folder:
        return True
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
