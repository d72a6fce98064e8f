"""Four CPU devices, rank promotion and warnings as errors, run-time shape checks of public functions."""

import gc
import os
from pathlib import Path

from xla_flags import FAST_COMPILES

os.environ["JAX_PLATFORMS"] = "cpu"
_flags = f"--xla_force_host_platform_device_count=4 {FAST_COMPILES}"
os.environ["XLA_FLAGS"] = f"{_flags} {os.environ.get('XLA_FLAGS', '')}"
_cache = Path(__file__).parent.parent / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_cache))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# Tracing makes millions of small objects that live on. Collecting as often as by default takes a third of it.
gc.set_threshold(100_000, 20, 20)

from jaxtyping import install_import_hook

install_import_hook(["jaxdet.ops", "jaxdet.nn", "jaxdet.models", "jaxdet.postprocess"], "beartype.beartype")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")

import json

import pytest

from jaxdet.training import setup

# What is imported stays: Orbax and `broken_access` collect garbage time and again, and need not pass over it.
gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_train_step_per_recipe():
    """Runs of one process share the compiled step of an equal config, most of the time of a small run."""
    steps, make = {}, setup.compiled_step

    def shared(cfg, skeleton, recipe, mesh, layouts):
        blocks = {name: setup.as_json(cfg)[name] for name in ("model", "optim", "train", "sharding")}
        for name in ("checkpoint_every", "evaluate_every", "keep", "keep_every", "log_every", "tensorboard"):
            del blocks["train"][name]
        counts = cfg.data.batch_size, cfg.data.get("plain_from", 0)
        key = json.dumps([blocks, counts]), skeleton, mesh
        if key not in steps:
            steps[key] = make(cfg, skeleton, recipe, mesh, layouts)
        return steps[key]

    setup.compiled_step = shared
    yield
    setup.compiled_step = make
