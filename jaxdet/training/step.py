"""One training step: gradient, update, average."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.structs import Batch
from jaxdet.training.average import Average
from jaxdet.training.recipe import TrainingRecipe
from jaxdet.training.state import TrainState

Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Any, Batch], tuple[TrainState, Any, Metrics]]
Form = Callable[[Skeleton, Variables], tuple[Skeleton, Variables]]


def make_train_step(
    skeleton: Skeleton,
    recipe: TrainingRecipe,
    microbatches: int = 1,
    form: Form = lambda skeleton, variables: (skeleton, variables),
) -> TrainStep:
    """`train_step(state, carry, batch) -> state, carry, metrics`, to be jitted.

    The carry comes back cut from the graph, which is all of truncated back-propagation: the next call
    continues from it with the updated weights. With `microbatches` > 1 the lanes are taken in that many equal
    groups, one after the other, and their gradients joined: the memory of one group, the update of all. The
    loss is that of `form(skeleton, variables)`, an equal model in the form that suits the device.
    """

    def loss_fn(params, stats, carry, batch, terms):
        model = functional.merge(*form(skeleton, Variables(params, stats)))
        loss, metrics, carry = model.loss(batch, carry, **terms)
        return loss, (metrics, jax.lax.stop_gradient(carry), functional.batch_stats(model))

    gradient = jax.value_and_grad(loss_fn, has_aux=True)

    def one_group(params, stats, carry, batch, terms):
        (_, (metrics, carry, stats)), grads = gradient(params, stats, carry, batch, terms)
        return grads, stats, carry, metrics

    def train_step(state: TrainState, carry, batch: Batch):
        accumulate = one_group if microbatches == 1 else _in_groups(one_group, microbatches)
        terms = _terms(recipe, state.step)
        guessed = {}
        if recipe.teacher is not None and state.ema is not None:
            labelled = batch.targets.box_mask.sum()
            batch = recipe.teacher.label(skeleton, state.ema.variables, batch, carry)
            guessed = {"num_teacher_boxes": batch.targets.box_mask.sum() - labelled}
        grads, stats, carry, metrics = accumulate(state.params, state.batch_stats, carry, batch, terms)
        metrics = {**metrics, **guessed, "gradient_norm": optax.tree.norm(grads)}
        del metrics["loss_weight"]
        if recipe.sum_images:
            grads = jax.tree.map(lambda g: g * metrics["num_slots"].astype(g.dtype), grads)
        updates, opt_state = recipe.optimizer.update(grads, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        ema = _followed(recipe, state, Variables(params, stats))
        return TrainState(params, stats, ema, opt_state, state.step + 1), carry, metrics

    return train_step


def _terms(recipe: TrainingRecipe, step: jax.Array) -> dict[str, jax.Array]:
    if not recipe.l1_from:
        return {}
    return {"l1_weight": (step >= recipe.l1_from).astype(jnp.float32)}


def _followed(recipe: TrainingRecipe, state: TrainState, variables: Variables) -> Average | None:
    """The average after this step; it moves when the parameters do."""
    averaging, ema = recipe.averaging, state.ema
    if averaging is None or ema is None:
        return ema
    if recipe.due is None:
        return averaging.follow(ema, variables)
    # Chosen, not branched: a branch copies all that passes through it.
    is_due, followed = recipe.due(state.step), averaging.follow(ema, variables)
    return jax.tree.map(lambda new, old: jnp.where(is_due, new, old), followed, ema)


def _in_groups(one_group, num_groups):
    """`one_group` over equal groups of lanes: means weigh by what they are means of, counts add up."""

    def split(tree):
        return jax.tree.map(lambda a: a.reshape((num_groups, a.shape[0] // num_groups, *a.shape[1:])), tree)

    def accumulate(params, stats, carry, batch, terms):
        def body(running, group):
            total, stats = running
            grads, stats, carry, metrics = one_group(params, stats, *group, terms)
            weight = jnp.maximum(metrics["loss_weight"], 1)
            total = jax.tree.map(lambda t, g: t + weight.astype(g.dtype) * g, total, grads)
            return (total, stats), (carry, metrics)

        zero = jax.tree.map(jnp.zeros_like, params)
        (total, stats), (carry, metrics) = jax.lax.scan(body, (zero, stats), (split(carry), split(batch)))
        carry = jax.tree.map(lambda a: a.reshape((a.shape[0] * a.shape[1], *a.shape[2:])), carry)
        # Back to sums; a group without any was divided by one.
        weights = jnp.maximum(metrics["loss_weight"], 1)
        sum_of_weights = jnp.maximum(metrics["loss_weight"].sum(), 1)
        grads = jax.tree.map(lambda g: g / sum_of_weights.astype(g.dtype), total)

        def joined(values):
            if jnp.issubdtype(values.dtype, jnp.integer):
                return values.sum(0)
            return (values * weights.astype(values.dtype)).sum(0) / sum_of_weights.astype(values.dtype)

        return grads, stats, carry, jax.tree.map(joined, metrics)

    return accumulate
