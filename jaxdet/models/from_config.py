"""A detector from its config: the `model` block, and the description of the input in the `data` block."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from jaxdet import models
from jaxdet.errors import InputError
from jaxdet.models.detector import Detector
from jaxdet.structs import EventGeometry


def geometry(cfg: Any) -> EventGeometry:
    """Sensor, step and cells of a config of an event model; without `data.step_us` the published 5 ms."""
    step_us = int(cfg.data.get("step_us", EventGeometry.step_us))
    window = int(cfg.model.get("window", EventGeometry.window))
    return EventGeometry(int(cfg.data.height), int(cfg.data.width), step_us, window)


def build(cfg: Any, seed: int) -> Detector:
    """The detector of a config (with `model` and `data`), with fresh weights.

    `model.dtype` float64 is there to tell arithmetic from rounding; it needs JAX_ENABLE_X64=1. Raises
    InputError where `model` and `data` do not fit together.
    """
    _check_shares(cfg.model)
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in cfg.model.items() if k != "name"}
    if models.entry(cfg.model.name).reads == "events":
        arguments.pop("window", None)  # it is part of the geometry
        _check_kind(cfg, "events")
        arguments["geometry"] = geometry(cfg)
        # The windows of training leave labels out by the same rule.
        arguments["warm_up_once"] = cfg.data.get("warmup") == "recording"
    else:
        _check_kind(cfg, "images")
    model = models.build(cfg.model.name, rngs=nnx.Rngs(seed), **arguments)
    if arguments.get("dtype") == "float64":
        if not jax.config.read("jax_enable_x64"):
            raise InputError("model.dtype is float64, which JAX does not keep; set JAX_ENABLE_X64=1")
        arrays = nnx.state(model, (nnx.Param, nnx.BatchStat))
        nnx.update(model, jax.tree.map(_widened, arrays))
    return model


def _check_shares(block: Any) -> None:
    for key in ("min_score", "nms_iou"):
        if not 0 <= block.get(key, 0) <= 1:
            raise InputError(f"model.{key} is {block[key]:g}, expected 0 to 1")


def _check_kind(cfg: Any, reads: str) -> None:
    kind = cfg.data.get("kind", reads)
    if kind != reads:
        raise InputError(
            f"model.name is {cfg.model.name!r}, which reads {reads}; data.kind is {kind!r}: make them agree"
        )


def _widened(leaf: Array):
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
