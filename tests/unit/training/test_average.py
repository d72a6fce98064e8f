"""One update: groups of lanes, shards, sums over images, the late term, the average."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxdet import sharding
from jaxdet.models.anchor_head import AnchorHead
from jaxdet.nn import functional
from jaxdet.structs import Targets
from jaxdet.training import optim, state
from jaxdet.training.average import Averaging
from jaxdet.training.recipe import TrainingRecipe
from jaxdet.training.step import make_train_step


class Lanes(NamedTuple):
    x: jax.Array  # [B, M, 3]
    real: jax.Array  # bool [B, M]


class Toy(nnx.Module):
    """A loss that is a mean over the real rows of all lanes."""

    def __init__(self):
        self.w = nnx.Param(jnp.asarray([0.5, -1.0, 2.0]))

    def loss(self, batch, carry, l1_weight=0.0):
        number = batch.real.sum()
        error = ((batch.x * self.w[...].reshape(1, 1, 3)).sum(-1) - 1) ** 2
        mean = (
            jnp.where(batch.real, error, 0).sum() / jnp.maximum(number, 1)
            + l1_weight * jnp.abs(self.w[...]).sum()
        )
        counts = {"num_positives": number, "num_slots": jnp.asarray(len(batch.x))}
        return mean, {"loss": mean, **counts, "loss_weight": number}, carry


def batch():
    """Four lanes of which three have 5, 2 and 1 real rows, the last none."""
    x = np.random.default_rng(0).standard_normal((4, 5, 3)).astype(np.float32)
    return Lanes(jnp.asarray(x), jnp.arange(5)[None, :] < jnp.asarray([5, 2, 1, 0])[:, None])


def after(microbatches=1, steps=1, **recipe):
    skeleton, variables = functional.split(Toy())
    made = TrainingRecipe(optax.sgd(0.1), optim.constant(0.1), **recipe)
    current = state.create(variables, made.optimizer, made.averaging is not None)
    step = jax.jit(make_train_step(skeleton, made, microbatches))
    for _ in range(steps):
        current, _, metrics = step(current, (), batch())
    return current, metrics


def test_groups_of_lanes_divide_by_the_positives_of_all_lanes():
    whole, metrics = after()
    for groups in (2, 4):
        parts, found = after(groups)
        np.testing.assert_allclose(parts.params["w"], whole.params["w"], rtol=1e-5)
        assert {k: int(found[k]) for k in ("num_positives", "num_slots")} == {
            "num_positives": 8,
            "num_slots": 4,
        }
        np.testing.assert_allclose(found["loss"], metrics["loss"], rtol=1e-6)


def test_a_loss_summed_over_images_has_so_many_times_the_gradient():
    start = np.array([0.5, -1.0, 2.0])
    mean, total = (np.asarray(after(2, sum_images=s)[0].params["w"]) - start for s in (False, True))
    np.testing.assert_allclose(total, 4 * mean, rtol=1e-5)


def test_the_late_term_counts_from_its_step_on():
    early, never, always = after(steps=2, l1_from=2), after(steps=2), after(steps=2, l1_from=1)
    np.testing.assert_array_equal(early[0].params["w"], never[0].params["w"])
    assert np.abs(np.asarray(always[0].params["w"] - never[0].params["w"])).max() > 0.01


def test_the_average_moves_with_the_updates_and_starts_at_the_first_weights():
    due = lambda step: step % 2 == 0  # noqa: E731
    averaging = Averaging(0.9, 5.0)
    one, _ = after(averaging=averaging, due=due)
    two, _ = after(steps=2, averaging=averaging, due=due)
    assert int(one.ema.updates) == int(two.ema.updates) == 1
    share = 1 - 0.9 * (1 - np.exp(-1 / 5))
    expected = np.array([0.5, -1.0, 2.0]) * (1 - share) + share * np.asarray(one.params["w"])
    np.testing.assert_allclose(state.variables(one).params["w"], expected, rtol=1e-5)
    np.testing.assert_array_equal(two.ema.variables.params["w"], one.ema.variables.params["w"])


def test_lanes_on_four_devices_give_the_loss_and_gradient_of_one():
    """Normalisers are those of all lanes, wherever these are."""
    head = AnchorHead([4], [[[9, 14], [20, 12]]], [8], 3, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    raw = jnp.asarray(rng.standard_normal((4, 2, 8, 12, 8)), jnp.float32)
    centre, size = rng.uniform(10, 60, (4, 3, 2)), rng.uniform(8, 25, (4, 3, 2))
    boxes = jnp.asarray(np.concatenate([centre - size / 2, centre + size / 2], -1), jnp.float32)
    # Four lanes with three, two, one and no box.
    mask = jnp.arange(3)[None, :] < jnp.asarray([3, 2, 1, 0])[:, None]
    lane = jnp.zeros(4, jnp.int32)
    targets = Targets(boxes, jnp.ones((4, 3), jnp.int32), mask, ~mask, lane, jnp.ones(4, bool))

    def loss(raw, targets):
        return head.loss([raw], None, targets, targets.slot_mask)[0]

    lanes = (raw, targets)
    value, grad = jax.jit(jax.value_and_grad(loss))(*lanes)
    mesh = sharding.make_mesh(4)
    assert mesh.size == 4
    placed = jax.device_put(lanes, sharding.lanes(mesh))
    other_value, other = jax.jit(jax.value_and_grad(loss))(*placed)
    np.testing.assert_allclose(other_value, value, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(grad), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
