"""Stochastic gradient descent of the YOLO releases: three groups, warm-up, nominal batch, lagging rates."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdet.nn.functional import Tree
from jaxdet.sharding import path_of

UpdateSteps = Callable[[jax.Array], jax.Array]


class Rates(NamedTuple):
    """Learning rates and momentum of an update, scalars."""

    weights: jax.Array  # learning rate of convolutions and of the scales of norms
    biases: jax.Array  # learning rate of all biases, those of norms included
    momentum: jax.Array


class SgdState(NamedTuple):
    """Batches seen, sum of gradients since the last update (None if every batch makes one), momentum."""

    count: jax.Array
    total: Tree | None
    momentum: Tree


def group_of(path: str) -> str:
    """`plain`, `decay` or `bias`: norms' scales, convolutions' kernels, all biases."""
    return {"kernel": "decay", "bias": "bias"}.get(path.rsplit(".", 1)[-1], "plain")


def sgd(
    rates: Callable[[jax.Array], Rates], weight_decay: float, due: UpdateSteps | None = None
) -> optax.GradientTransformation:
    """SGD with Nesterov's momentum (Sutskever et al. 2013) as in torch; weight decay applies to kernels.

    `rates` and `due` are functions of the number of batches seen before. Gradients of batches that are not
    due are summed up and wait for one that is, whose rates count.
    """

    def init(params: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, params)
        total = None if due is None else jax.tree.map(jnp.zeros_like, params)
        return SgdState(jnp.zeros((), jnp.int32), total, zeros)

    def move(grads, momentum, params, now: Rates):
        def leaf(key_path, gradient, old, param):
            group = group_of(path_of(key_path))
            if group == "decay":
                gradient = gradient + weight_decay * param
            new = now.momentum.astype(old.dtype) * old + gradient
            rate = now.biases if group == "bias" else now.weights
            step = gradient + now.momentum.astype(old.dtype) * new
            return -rate.astype(param.dtype) * step, new

        pairs = jax.tree_util.tree_map_with_path(leaf, grads, momentum, params)
        return jax.tree.transpose(jax.tree.structure(params), jax.tree.structure((0, 0)), pairs)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        assert params is not None
        now = rates(state.count)
        count = state.count + 1
        if due is None:
            moved, momentum = move(updates, state.momentum, params, now)
            return moved, SgdState(count, None, momentum)
        total = jax.tree.map(jnp.add, state.total, updates)
        moved, momentum = move(total, state.momentum, params, now)
        # Chosen, not branched: a branch copies all that passes through it, and on GPUs the host waits for it.
        is_due = due(state.count)

        def chosen(new, old):
            return jax.tree.map(lambda a, b: jnp.where(is_due, a, b), new, old)

        zeros = jax.tree.map(jnp.zeros_like, params)
        moved, total, momentum = chosen((moved, zeros, momentum), (zeros, total, state.momentum))
        return moved, SgdState(count, total, momentum)

    return optax.GradientTransformation(init, update)


class WarmUp(NamedTuple):
    """Warm-up: rates of weights rise from 0, those of biases fall from `bias_rate`, momentum rises."""

    num_steps: int
    bias_rate: float
    momentum: float


def accumulation(batch_size: int, nominal: int, warm_up_steps: int) -> UpdateSteps | None:
    """Function that tells if a batch ends an update: `nominal` images make one, fewer during warm-up.

    Parity: batch i is due if the number wanted at that moment divides i, so batch 0 is. None if all are.
    """
    ratio = nominal / batch_size
    # Released with numpy's float64 interpolation and rounding; the steps of the staircase are found with it.
    steps = np.arange(warm_up_steps + 1)
    wanted = np.interp(steps, [0, warm_up_steps], [1, ratio]).round()
    starts = [int(np.argmax(wanted >= k)) for k in range(2, round(ratio) + 1)]
    if not starts:
        return None

    def due(count):
        number = 1 + sum((count >= start).astype(jnp.int32) for start in starts)
        return count % number == 0

    return due


def full_accumulation(batch_size: int, nominal: int) -> int:
    """Batches of an update after warm-up."""
    return max(round(nominal / batch_size), 1)


def yolov4_rates(
    lr: float, final: float, momentum: float, warm_up: WarmUp, steps_per_epoch: int, num_steps: int
) -> Callable[[jax.Array], Rates]:
    """Half a cosine from `lr` to `final` of it, constant within an epoch, after warm-up towards it.

    Parity: after warm-up an epoch has the rate of the one before it, as released.
    """
    epochs = num_steps / steps_per_epoch

    def cosine(epoch):
        return lr * ((1 + jnp.cos(math.pi * epoch / epochs)) / 2 * (1 - final) + final)

    def rates(count) -> Rates:
        epoch = count // steps_per_epoch
        warm = count <= warm_up.num_steps
        # The epoch in which warm-up ends keeps the rate that warm-up ended with.
        own = epoch <= warm_up.num_steps // steps_per_epoch
        rate = cosine(jnp.where(own, epoch, epoch - 1))
        progress = jnp.where(warm, count / warm_up.num_steps, 1)
        return Rates(
            rate * progress,
            warm_up.bias_rate + (rate - warm_up.bias_rate) * progress,
            warm_up.momentum + (momentum - warm_up.momentum) * progress,
        )

    return rates


def yolox_rates(
    lr: float, final: float, momentum: float, warm_up_steps: int, num_steps: int, plain_steps: int
) -> Callable[[jax.Array], Rates]:
    """Quadratic warm-up to `lr`, half a cosine to `final` of it, constant for the last `plain_steps`."""
    length = max(num_steps - warm_up_steps - plain_steps, 1)

    def rates(count) -> Rates:
        warm = lr * (count / max(warm_up_steps, 1)) ** 2
        progress = jnp.clip((count - warm_up_steps) / length, 0, 1)
        later = lr * (final + (1 - final) * 0.5 * (1 + jnp.cos(math.pi * progress)))
        rate = jnp.where(count <= warm_up_steps, warm, later) if warm_up_steps else later
        return Rates(rate, rate, jnp.full_like(rate, momentum))

    return rates
