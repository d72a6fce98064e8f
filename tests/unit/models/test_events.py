"""The size of the event windows of reduced models."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet import models
from jaxdet.structs import EventGeometry, Events

SIZE = (48, 64)


def lane(rows, order):
    """One lane and one step of events (x, y, t, p) in this order."""
    x, y, t, p = rows[order].T
    return Events(
        xy=jnp.asarray(np.stack([x, y], -1)[None], jnp.float32),
        t_us=jnp.asarray(t[None], jnp.int16),
        polarity=jnp.asarray(p[None], jnp.int8),
        step_start=jnp.asarray([[0, len(rows)]], jnp.int32),
    )


@pytest.mark.slow
def test_wider_windows_read_the_same_from_events_in_the_order_of_narrow_ones():
    """The host sorts by windows of 4 pixels; a model with windows of 8 must not depend on that order."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, [SIZE[1], SIZE[0], 5000, 2], (300, 4))
    order = {size: np.lexsort((rows[:, 0] // size, rows[:, 1] // size)) for size in (4, 8)}
    model = models.build(
        "hmnet",
        geometry=EventGeometry(*SIZE, window=8),
        widths=(8,),
        num_heads=(2,),
        depths=(1,),
        periods=(1,),
        out_features=8,
        event_features=4,
        rngs=nnx.Rngs(0),
    )
    at_step, reset = jnp.zeros((1, 1), jnp.int32), jnp.ones(1, bool)
    features = {
        (size, train): model.backbone(
            lane(rows, order[size]), at_step, reset, model.init_carry(1), train
        ).features[0]
        for size in order
        for train in (False, True)
    }
    assert features[4, False].shape == (1, SIZE[0] // 8, SIZE[1] // 8, 8)
    for key, value in features.items():
        # Sums of events run in another order, and the table holds what training computes anew.
        np.testing.assert_allclose(value, features[8, False], atol=2e-5, err_msg=str(key))
    assert model.head.strides == (8, 16, 32)
