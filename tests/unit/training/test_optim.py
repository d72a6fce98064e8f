import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.training import optim


def _released(iteration, total):
    return 1e-7 + 0.5 * (2e-4 - 1e-7) * (1 + math.cos(math.pi * iteration / total))


@pytest.mark.parametrize(
    ("count", "iteration_of_rate"),
    # Ten segments per iteration. Iteration 0 has its own rate; from iteration 1 on the first segment lags.
    [(0, 0), (1, 0), (9, 0), (10, 0), (11, 1), (19, 1), (20, 1), (21, 2)],
)
def test_rate_of_segments_lags_one_optimiser_step(count, iteration_of_rate):
    schedule = optim.lagged(optim.cosine(2e-4, 1e-7, 4523), segments=10)
    # float32 rates
    assert float(schedule(jnp.asarray(count))) == pytest.approx(_released(iteration_of_rate, 4523), rel=1e-6)


@pytest.mark.parametrize(("iteration", "rate_of"), [(0, 0), (1, 0), (2, 1)])
def test_rate_of_short_windows_lags_one_iteration(iteration, rate_of):
    schedule = optim.lagged(optim.cosine(2e-4, 1e-7, 50), segments=1)
    assert float(schedule(jnp.asarray(iteration))) == pytest.approx(_released(rate_of, 50), rel=1e-6)


# By hand, for four iterations: lr(i) = 1e-7 + 0.99950e-4 * (1 + cos(i * 45 degrees)).
LR = {0: 2.0e-4, 1: 1.7072532e-4, 2: 1.0005e-4, 3: 2.9374678e-5}


@pytest.mark.parametrize(
    ("iteration", "segment", "rate"),
    [
        (0, 0, LR[0]),
        (0, 1, LR[0]),
        (1, 0, LR[0]),
        (1, 1, LR[1]),
        (2, 0, LR[1]),
        (2, 1, LR[2]),
        (3, 0, LR[2]),
        (3, 1, LR[3]),
    ],
)
def test_rates_are_those_of_a_table_made_by_hand(iteration, segment, rate):
    schedule = optim.lagged(optim.cosine(2e-4, 1e-7, 4), segments=10)
    assert float(schedule(jnp.asarray(10 * iteration + segment))) == pytest.approx(rate, rel=1e-6)
    if segment == 0:
        short = optim.lagged(optim.cosine(2e-4, 1e-7, 4), segments=1)
        assert float(short(jnp.asarray(iteration))) == pytest.approx(rate, rel=1e-6)


def test_decay_spares_vectors_biases_latents_and_position_tables():
    params = {
        "memory1": {
            "init_latent": jnp.zeros((1, 4, 2)),
            "proj": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)},
        },
        "attn": {"position_embedding_table": jnp.zeros((13, 13, 4)), "dustbin_weights": jnp.zeros(4)},
        "norm": {"scale": jnp.zeros(2)},
    }
    decays = {
        ".".join(str(k.key) for k in path)
        for path, yes in jax.tree_util.tree_leaves_with_path(optim.decay_mask(params))
        if yes
    }
    assert decays == {"memory1.proj.kernel"}


def test_adamw_step_equals_the_formula():
    params = {"kernel": jnp.array([[0.5, -1.0]])}
    grads = {"kernel": jnp.array([[0.1, -0.2]])}
    tx = optim.adamw(optim.constant(1e-2), weight_decay=0.1)
    updates, _ = tx.update(grads, tx.init(params), params)
    # First step: both moments are bias-corrected to g and g*g.
    p, g = np.array([[0.5, -1.0]]), np.array([[0.1, -0.2]])
    np.testing.assert_allclose(updates["kernel"], -1e-2 * (g / (np.abs(g) + 1e-8) + 0.1 * p), rtol=1e-5)
