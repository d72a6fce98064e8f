"""Everything that changes while training, as one value."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdet.nn.functional import Tree, Variables
from jaxdet.training import average
from jaxdet.training.average import Average


class TrainState(NamedTuple):
    """The state that a step takes and returns besides the carry."""

    params: Tree
    batch_stats: Tree
    ema: Average | None  # averaged weights and statistics, or None where the recipe has none
    opt_state: Any
    step: jax.Array  # int32 []   batches taken; the position in the data follows from it


def create(variables: Variables, optimizer: optax.GradientTransformation, ema: bool = False) -> TrainState:
    """State before the first step."""
    averaged = average.start(variables) if ema else None
    params, stats = variables
    return TrainState(params, stats, averaged, optimizer.init(params), jnp.zeros((), jnp.int32))


def variables(state: TrainState) -> Variables:
    """The weights to evaluate or export: the averaged ones where they exist."""
    return state.ema.variables if state.ema else Variables(state.params, state.batch_stats)
