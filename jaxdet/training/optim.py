"""Optimisers, parameter groups by path, schedules."""

import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from jaxdet.nn.functional import Tree
from jaxdet.sharding import path_of

# Parity: HMNet exempts every vector, every bias, the initial latents and the relative position tables.
HMNET_NO_DECAY = (r"(^|\.)bias$", r"init_latent$", r"position_embedding_table$")


def decay_mask(params: Tree, exempt: Sequence[str] = HMNET_NO_DECAY) -> Tree:
    """Mask of weight decay: True for arrays of two or more axes whose path matches no pattern of `exempt`."""

    def decays(key_path, leaf):
        path = path_of(key_path)
        return leaf.ndim > 1 and not any(re.search(pattern, path) for pattern in exempt)

    return jax.tree_util.tree_map_with_path(decays, params)


def cosine(peak: float, final: float, num_iterations: int) -> optax.Schedule:
    """Half a cosine from `peak` at iteration 0 to `final` at `num_iterations`."""

    def rate(iteration):
        progress = jnp.clip(iteration / num_iterations, 0, 1)
        return final + 0.5 * (peak - final) * (1 + jnp.cos(jnp.pi * progress))

    return rate


def constant(peak: float) -> optax.Schedule:
    """The same rate at every iteration."""
    return lambda iteration: jnp.full_like(iteration, peak, dtype=jnp.float32)


def lagged(schedule: optax.Schedule, segments: int) -> optax.Schedule:
    """Rate of optimiser step `count` when a window of `segments` segments is one iteration.

    Parity [Q7]: released HMNet moves its schedule after the first optimiser step of an iteration, so segment
    0 of iteration i still has the rate of iteration i - 1 (iteration 0 its own), segments 1.. that of
    iteration i.
    """

    def rate(count):
        iteration, segment = count // segments, count % segments
        return schedule(jnp.where(segment == 0, jnp.maximum(iteration - 1, 0), iteration))

    return rate


def adamw(
    schedule: optax.Schedule, weight_decay: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """AdamW with decoupled decay (Loshchilov & Hutter 2019) on the parameters of `decay_mask`."""
    return optax.adamw(schedule, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=decay_mask)
