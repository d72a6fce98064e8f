"""What one update is."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.structs import Batch
from jaxdet.training.state import TrainState

Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Any, Batch], tuple[TrainState, Any, Metrics]]


def make_train_step(
    skeleton: Skeleton, optimizer: optax.GradientTransformation, microbatches: int = 1
) -> TrainStep:
    """`train_step(state, carry, batch) -> state, carry, metrics`, to be jitted.

    The carry comes back cut from the graph, which is all of truncated back-propagation: the next call continues from it
    with the updated weights. With `microbatches` > 1 the lanes are taken in that many equal groups, one after the
    other, and their gradients averaged: the memory of one group, the update of all.
    """

    def loss_fn(params, stats, carry, batch):
        model = functional.merge(skeleton, Variables(params, stats))
        loss, metrics, carry = model.loss(batch, carry)
        return loss, (metrics, jax.lax.stop_gradient(carry), functional.batch_stats(model))

    gradient = jax.value_and_grad(loss_fn, has_aux=True)

    def one_group(params, stats, carry, batch):
        (_, (metrics, carry, stats)), grads = gradient(params, stats, carry, batch)
        return grads, stats, carry, metrics

    def train_step(state: TrainState, carry, batch: Batch):
        accumulate = one_group if microbatches == 1 else _in_groups(one_group, microbatches)
        grads, stats, carry, metrics = accumulate(state.params, state.batch_stats, carry, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {**metrics, "gradient_norm": optax.tree.norm(grads)}
        return (
            state._replace(params=params, batch_stats=stats, opt_state=opt_state, step=state.step + 1),
            carry,
            metrics,
        )

    return train_step


def _in_groups(one_group, num_groups):
    def split(tree):
        return jax.tree.map(lambda a: a.reshape((num_groups, a.shape[0] // num_groups, *a.shape[1:])), tree)

    def accumulate(params, stats, carry, batch):
        def body(running, group):
            total, stats = running
            grads, stats, carry, metrics = one_group(params, stats, *group)
            return (jax.tree.map(jnp.add, total, grads), stats), (carry, metrics)

        zero = jax.tree.map(jnp.zeros_like, params)
        (total, stats), (carry, metrics) = jax.lax.scan(body, (zero, stats), (split(carry), split(batch)))
        carry = jax.tree.map(lambda a: a.reshape((a.shape[0] * a.shape[1], *a.shape[2:])), carry)
        grads = jax.tree.map(lambda g: g / num_groups, total)
        return grads, stats, carry, jax.tree.map(lambda m: m.mean(0), metrics)

    return accumulate
