"""An update: accumulation over groups of lanes, and the precision of what is differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxdet import models
from jaxdet.data.events import packing
from jaxdet.nn import functional
from jaxdet.structs import EventGeometry
from jaxdet.training import state
from jaxdet.training.recipe import TrainingRecipe
from jaxdet.training.step import make_train_step

RECIPE = TrainingRecipe(optax.sgd(0.1), optax.constant_schedule(0.1))


class Toy(nnx.Module):
    """A product and a statistic; the carry counts, and its gradient must not leak."""

    def __init__(self):
        self.kernel = nnx.Param(jnp.array([[1.0], [-2.0], [0.5]]))
        self.mean = nnx.BatchStat(jnp.zeros(()))

    def loss(self, batch, carry):
        error = (batch @ self.kernel[...])[:, 0] - carry
        self.mean.set_value(0.5 * self.mean[...] + 0.5 * batch.mean())
        loss = (error**2).mean()
        return loss, {"loss": loss, "loss_weight": jnp.ones(())}, carry + batch[:, 0]


@pytest.mark.parametrize("groups", [2, 4])
def test_microbatches_average_the_gradient_and_keep_the_lanes_in_order(groups):
    skeleton, variables = functional.split(Toy())
    batch = jax.random.normal(jax.random.key(0), (4, 3))
    results = []
    for count in (1, groups):
        step = jax.jit(make_train_step(skeleton, RECIPE, count))
        results.append(step(state.create(variables, RECIPE.optimizer), jnp.arange(4.0), batch))
    (one, carry, metrics), (many, carry_many, metrics_many) = results
    # Another order of summation of four float32 terms.
    np.testing.assert_allclose(many.params["kernel"], one.params["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(carry_many, carry)
    for name in metrics:
        np.testing.assert_allclose(metrics_many[name], metrics[name], rtol=1e-6)
    # Groups move the statistics one after the other.
    expected = 0.0
    for part in np.split(np.asarray(batch), groups):
        expected = 0.5 * expected + 0.5 * part.mean()
    np.testing.assert_allclose(many.batch_stats["mean"], expected, rtol=1e-5)


def test_bfloat16_is_the_precision_of_compute_only():
    """Parameters, their gradients, statistics, carry and losses stay float32."""
    size = {
        "geometry": EventGeometry(32, 32),
        "widths": (16, 16),
        "num_heads": (1, 1),
        "depths": (1, 1),
        "periods": (1, 3),
    }

    def make():
        return models.build("hmnet", rngs=nnx.Rngs(0), out_features=16, dtype="bfloat16", **size)

    skeleton, variables = functional.abstract(make)
    fresh = jax.eval_shape(lambda v: state.create(v, RECIPE.optimizer), variables)
    carry = jax.eval_shape(lambda v: functional.merge(skeleton, v).init_carry(2), variables)
    batch = packing.empty(2, 64, 4, 1, 2)
    step = jax.make_jaxpr(make_train_step(skeleton, RECIPE), return_shape=True)
    program, (after, carry_after, metrics) = step(fresh, carry, batch)
    same = lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype)  # noqa: E731
    assert jax.tree.all(jax.tree.map(same, (after, carry_after), (fresh, carry)))
    leaves = jax.tree.leaves((after.params, carry_after.latent))
    assert all(leaf.dtype == jnp.float32 for leaf in [*leaves, metrics["loss"]])
    assert any(v.aval.dtype == jnp.bfloat16 for v in _values(program.jaxpr) if hasattr(v.aval, "dtype"))


def _values(jaxpr):
    for equation in jaxpr.eqns:
        yield from equation.outvars
