"""Everything that changes while training, as one value."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdet.nn.functional import Tree, Variables


class TrainState(NamedTuple):
    """What a step takes and returns besides the carry."""

    params: Tree
    batch_stats: Tree
    ema: Variables | None  # averaged weights and statistics, or None where the recipe has none
    opt_state: Any
    step: jax.Array  # int32 []   optimiser steps taken; the position in the data follows from it


def create(variables: Variables, optimizer: optax.GradientTransformation, ema: bool = False) -> TrainState:
    """State before the first step."""
    averaged = jax.tree.map(jnp.copy, variables) if ema else None
    params, stats = variables
    return TrainState(params, stats, averaged, optimizer.init(params), jnp.zeros((), jnp.int32))


def variables(state: TrainState) -> Variables:
    """The weights to evaluate or export: the averaged ones where they exist."""
    return state.ema or Variables(state.params, state.batch_stats)
