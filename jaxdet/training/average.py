"""The exponential moving average of weights and statistics."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdet.nn.functional import Variables


class Average(NamedTuple):
    """Averaged variables and the updates they have seen, int32 []."""

    variables: Variables
    updates: jax.Array


class Averaging(NamedTuple):
    """The decay of the average: `decay` * (1 - exp(-u / `ramp`)) at its update u = 1, 2, ..."""

    decay: float = 0.9999
    ramp: float = 2000.0

    def share(self, update: jax.Array) -> jax.Array:
        """The weight of the model in update u, 1 - decay, computed without cancellation."""
        return (1 - self.decay) + self.decay * jnp.exp(-update / self.ramp)

    def follow(self, average: Average, variables: Variables) -> Average:
        """The average after one more update.

        Parity: every floating-point number is averaged, statistics included; counters keep their first value.
        """
        updates = average.updates + 1
        share = self.share(updates)

        def leaf(old, new):
            if not jnp.issubdtype(old.dtype, jnp.floating):
                return old
            return old + share.astype(old.dtype) * (new - old)

        return Average(jax.tree.map(leaf, average.variables, variables), updates)


def start(variables: Variables) -> Average:
    """A copy that has seen no update."""
    return Average(jax.tree.map(jnp.copy, variables), jnp.zeros((), jnp.int32))
