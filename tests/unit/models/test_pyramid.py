"""Necks of one memory: the released one and the pyramid."""

import jax
import numpy as np
import pytest
from flax import nnx

from jaxdet import config
from jaxdet.errors import InputError
from jaxdet.models import from_config
from jaxdet.models.pyramid import StridedLevels, TopDownLevels

SIZE = (1, 9, 12, 8)


def _reach(neck, level):
    """Places of the input on which the middle of an output level depends."""

    def middle(x):
        out = neck([x])[level]
        return out[0, out.shape[1] // 2, out.shape[2] // 2].sum()

    # Around real numbers, since a ReLU of zeros passes nothing on.
    x = jax.random.normal(jax.random.key(0), SIZE)
    return np.abs(np.asarray(jax.grad(middle)(x))).sum((0, 3)) > 0


def test_a_pyramid_lets_the_finest_level_see_what_the_coarsest_sees():
    released, pyramid = (kind(8, 2, rngs=nnx.Rngs(0)) for kind in (StridedLevels, TopDownLevels))
    x = jax.random.normal(jax.random.key(1), SIZE)
    assert [level.shape for level in pyramid([x])] == [level.shape for level in released([x])]
    assert [level.shape[1:3] for level in pyramid([x])] == [(9, 12), (5, 6), (3, 3)]
    np.testing.assert_array_equal(released([x])[0], x)
    assert _reach(released, 0).sum() == 1
    coarse = _reach(released, 2)
    assert coarse.sum() > 9
    assert (_reach(pyramid, 0) >= coarse).all()


def test_the_neck_is_chosen_by_the_config():
    cfg = config.base()
    cfg.data = config.gen1()
    tiny = {"widths": (8,), "num_heads": (1,), "out_features": 8, "event_features": 4}
    for neck, kind in (("released", StridedLevels), ("pyramid", TopDownLevels)):
        cfg.model = config.hmnet("b1", 2, **tiny, neck=neck)
        assert type(nnx.eval_shape(lambda: from_config.build(cfg, 0)).neck) is kind
    cfg.model.neck = "tower"
    with pytest.raises(InputError, match=r"model\.neck is 'tower'; expected one of released, pyramid"):
        from_config.build(cfg, 0)
