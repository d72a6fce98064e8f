"""The recipe of a config."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet import config
from jaxdet.errors import InputError
from jaxdet.nn.functional import Variables
from jaxdet.training import average, recipe


def _config(**changes):
    cfg = config.base()
    cfg.optim = config.adamw(lr=1e-3, weight_decay=0.01)
    cfg.optim.update(changes)
    return cfg


def test_adamw_has_no_average_unless_its_decay_is_given():
    assert recipe.make(_config()).averaging is None
    old = _config()
    del old.optim.ema_decay, old.optim.ema_ramp  # of a run begun before there was one
    assert recipe.make(old).averaging is None


@pytest.mark.parametrize("b2", [None, 0.5])
def test_the_second_step_of_adamw_weighs_squared_gradients_by_b2(b2):
    cfg = _config(weight_decay=0.0, schedule="constant")
    if b2 is None:
        del cfg.optim.b2  # of a run begun before there was one
    else:
        cfg.optim.b2 = b2
    optimizer, b2 = recipe.make(cfg).optimizer, b2 or 0.999
    first, second = np.array([0.3, -2.0]), np.array([-0.1, 0.5])
    state = optimizer.init({"w": jnp.zeros(2)})
    for gradient in (first, second):
        updates, state = optimizer.update({"w": jnp.asarray(gradient)}, state, {"w": jnp.zeros(2)})
    # Kingma and Ba, "Adam", algorithm 1.
    mean = (0.9 * 0.1 * first + 0.1 * second) / (1 - 0.9**2)
    square = (b2 * (1 - b2) * first**2 + (1 - b2) * second**2) / (1 - b2**2)
    np.testing.assert_allclose(updates["w"], -1e-3 * mean / np.sqrt(square), rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ema_decay": 2.0}, "ema_decay is 2.0"),
        ({"ema_decay": -1.0}, "ema_decay is -1.0"),
        ({"ema_decay": 0.9, "ema_ramp": 0.0}, "ema_ramp 0.0"),
        ({"ema_decay": float("nan")}, "ema_decay is nan"),
        ({"b2": 1.0}, "optim.b2 is 1.0"),
        ({"b2": -0.1}, "optim.b2 is -0.1"),
        ({"b2": float("nan")}, "optim.b2 is nan"),
        ({"teacher_slots": 2}, "set optim.ema_decay"),
        ({"teacher_slots": -1, "ema_decay": 0.9}, "teacher_slots is -1"),
        ({"teacher_slots": 2, "ema_decay": 0.9, "teacher_score": 2.0}, "teacher_score 2.0"),
    ],
)
def test_numbers_that_are_no_average_and_no_teacher_are_one_line(changes, told):
    cfg = _config(**changes)
    cfg.data = config.gen1()
    with pytest.raises(InputError, match=told) as error:
        recipe.make(cfg)
    assert "\n" not in str(error.value)


def test_the_average_is_the_sum_of_all_weights_with_the_shares_of_its_decay():
    averaging = recipe.make(_config(ema_decay=0.9, ema_ramp=4.0)).averaging
    weights = np.random.default_rng(0).standard_normal((6, 3))
    found = average.start(Variables({"w": jnp.asarray(weights[0])}, {}))
    for row in weights[1:]:
        found = averaging.follow(found, Variables({"w": jnp.asarray(row)}, {}))
    # decay of update u: 0.9 (1 - exp(-u / 4)); weights u has the share (1 - d_u) times all later decays.
    decays = 0.9 * (1 - np.exp(-np.arange(1, 6) / 4))
    shares = [np.prod(decays), *((1 - decays[u]) * np.prod(decays[u + 1 :]) for u in range(5))]
    np.testing.assert_allclose(sum(shares), 1, rtol=1e-12)
    np.testing.assert_allclose(found.variables.params["w"], shares @ weights, rtol=1e-5)
