"""SGD of the YOLO releases: groups, warm-up, accumulation, rates, averages."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yolo_models import golden_abstract

from jaxdet import config
from jaxdet.nn.functional import Variables
from jaxdet.training import average, recipe, sgd
from jaxdet.training.average import Averaging


def released_warm_up(ni, nb, nw, batch, total_epochs, lr=0.01):
    """Rates of weights and biases, momentum, batches per update at `ni`, as the released loop has them."""

    def lf(epoch):
        return ((1 + math.cos(math.pi * epoch / total_epochs)) / 2) * 0.8 + 0.2

    warm = min(ni, nw)
    epoch = ni // nb
    number = max(1, np.interp(warm, [0, nw], [1, 64 / batch]).round())
    if ni <= nw:
        final = lr * lf(epoch)
        bias, momentum = np.interp(ni, [0, nw], [0.1, final]), np.interp(ni, [0, nw], [0.9, 0.937])
        return np.interp(ni, [0, nw], [0.0, final]), bias, momentum, number
    # The scheduler moves at the end of an epoch, to the number of the epoch that ended.
    last = nw // nb
    rate = lr * lf(last if epoch == last else epoch - 1)
    return rate, rate, 0.937, max(round(64 / batch), 1)


@pytest.mark.parametrize(("batch", "nb"), [(16, 40), (24, 400), (3, 350), (128, 10)])
def test_warm_up_and_rates_equal_the_released_loop(batch, nb):
    cfg = config.base()
    cfg.data, cfg.optim = config.block(batch_size=batch), config.sgd_yolov4()
    cfg.train.iterations_per_epoch, cfg.train.num_iterations = nb, 60 * nb
    nw = max(3 * nb, 1000)
    made = recipe.make(cfg)
    rates = sgd.yolov4_rates(0.01, 0.2, 0.937, sgd.WarmUp(nw, 0.1, 0.9), nb, 60 * nb)
    counts = np.unique(
        np.r_[0:60, nw // 2, nw - 1 : nw + 3, np.arange(nb - 1, 60 * nb, nb)[-20:], 60 * nb - 1]
    )
    counts = np.unique(np.r_[counts, np.arange(0, nw, 7)])
    found = rates(jnp.asarray(counts))
    expected = np.array([released_warm_up(int(ni), nb, nw, batch, 60) for ni in counts])
    # float32 rates
    np.testing.assert_allclose(found.weights, expected[:, 0], rtol=2e-6)
    np.testing.assert_allclose(found.biases, expected[:, 1], rtol=2e-6)
    np.testing.assert_allclose(np.broadcast_to(found.momentum, counts.shape), expected[:, 2], rtol=1e-6)
    np.testing.assert_allclose(made.schedule(jnp.asarray(counts)), found.weights)
    due = counts % expected[:, 3] == 0
    if made.due is None:
        assert due.all()
    else:
        np.testing.assert_array_equal(made.due(jnp.asarray(counts)), due)


def test_yolox_rate_rises_quadratically_falls_and_stays():
    rates = sgd.yolox_rates(0.01, 0.05, 0.9, warm_up_steps=50, num_steps=3000, plain_steps=150)
    rate = lambda step: float(rates(jnp.asarray(step)).weights)  # noqa: E731
    assert rate(0) == 0
    assert rate(25) == pytest.approx(0.01 / 4)
    assert rate(50) == pytest.approx(0.01)
    middle = 50 + (3000 - 50 - 150) // 2
    assert rate(middle) == pytest.approx((0.01 + 0.0005) / 2)
    assert rate(2850) == rate(2999) == pytest.approx(0.0005)


@pytest.mark.parametrize(("batch", "factor"), [(16, 1), (32, 1), (64, 1), (24, 1.125), (128, 2)])
def test_decay_scales_with_the_batch_that_is_reached(batch, factor):
    assert batch * sgd.full_accumulation(batch, 64) / 64 == factor


def tree(rng, scale=1.0):
    shapes = {"conv": {"kernel": (2, 3)}, "norm": {"scale": (3,), "bias": (3,)}}
    return jax.tree.map(
        lambda s: jnp.asarray(scale * rng.standard_normal(s)), shapes, is_leaf=lambda s: isinstance(s, tuple)
    )


def test_update_equals_torch_and_batches_wait_for_the_one_that_is_due():
    """Of six batches 0, 1, 3 and 5 are due; the rates of the waiting ones never count."""
    rng, wanted = np.random.default_rng(0), np.array([True, True, False, True, False, True])
    rate, bias_rate = np.linspace(0.01, 0.06, 6), np.linspace(0.1, 0.05, 6)
    momentum, decay = np.linspace(0.9, 0.95, 6), 0.1

    def rates(count):
        return sgd.Rates(*(jnp.asarray(v)[count] for v in (rate, bias_rate, momentum)))

    tx = sgd.sgd(rates, decay, lambda count: jnp.asarray(wanted)[count])
    params = tree(rng)
    state = tx.init(params)
    p = jax.tree.map(np.asarray, params)
    buffer, total = (jax.tree.map(np.zeros_like, p) for _ in range(2))
    for i in range(6):
        grads = tree(rng)
        updates, state = tx.update(grads, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        total = jax.tree.map(np.add, total, grads)
        if wanted[i]:
            # torch.optim.SGD(nesterov=True), the group's rate and decay.
            for path, lr, wd in (
                (("conv", "kernel"), rate[i], decay),
                (("norm", "scale"), rate[i], 0),
                (("norm", "bias"), bias_rate[i], 0),
            ):
                (a, b) = path
                g = total[a][b] + wd * p[a][b]
                buffer[a][b] = momentum[i] * buffer[a][b] + g
                p[a][b] = p[a][b] - lr * (g + momentum[i] * buffer[a][b])
            total = jax.tree.map(np.zeros_like, total)
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(p), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("tiny", (49, 54, 51)),
        ("p6_nc4", (195, 205, 199)),
        pytest.param("p7_nc4", (235, 247, 240), marks=pytest.mark.slow),
    ],
)
def test_groups_have_the_released_sizes(name, counts):
    paths = jax.tree_util.tree_leaves_with_path(golden_abstract(name).params)
    groups = [sgd.group_of(sgd.path_of(path)) for path, _ in paths]
    assert tuple(groups.count(g) for g in ("plain", "decay", "bias")) == counts


def test_average_after_fifty_updates_equals_the_closed_formula():
    """v_u = d(u) v_{u-1} + (1 - d(u)) m_u: each m_u weighs (1 - d(u)) times all later d."""
    rng = np.random.default_rng(1)
    models = rng.standard_normal((51, 4))
    averaging = Averaging(0.9999, 20.0)  # a short ramp, so that all weights count
    stats = {"num_batches_tracked": jnp.asarray(7), "var": jnp.asarray(models[0])}
    current = average.start(Variables({"w": jnp.asarray(models[0])}, stats))
    for i, m in enumerate(models[1:]):
        stats = {"num_batches_tracked": jnp.asarray(8 + i), "var": jnp.asarray(m)}
        current = averaging.follow(current, Variables({"w": jnp.asarray(m)}, stats))
    d = 0.9999 * (1 - np.exp(-np.arange(1, 51) / 20.0))
    weights = np.array([(1 - d[u]) * d[u + 1 :].prod() for u in range(50)])
    expected = d.prod() * models[0] + weights @ models[1:]
    for leaf in (current.variables.params["w"], current.variables.batch_stats["var"]):
        np.testing.assert_allclose(leaf, expected, rtol=1e-5, atol=1e-6)
    assert int(current.updates) == 50
    # Counters keep the value they had at the start.
    assert int(current.variables.batch_stats["num_batches_tracked"]) == 7


def test_share_of_late_updates_does_not_cancel():
    """1 - 0.9999 has but three digits in float32."""
    updates = np.array([1, 5000, 10**6])
    exact = 1 - 0.9999 * (1 - np.exp(-updates / 2000))
    np.testing.assert_allclose(Averaging().share(jnp.asarray(updates)), exact, rtol=1e-5)
