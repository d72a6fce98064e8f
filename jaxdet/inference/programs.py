"""Compiled programs of a live stream, shared by all streams of equal detectors."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton
from jaxdet.structs import Events


def event_table(skeleton, variables):
    """Keys and values of all events with whole coordinates."""
    return functional.merge(skeleton, variables).backbone.event_table()


@lru_cache(maxsize=256)
def step(skeleton: Skeleton, phase: int, size: int, real_events: bool) -> jax.stages.Compiled:
    """One step of one lane with room for `size` events; streams of equal detectors share it."""
    variables = functional.shapes(skeleton)
    table = jax.eval_shape(partial(event_table, skeleton), variables)
    carry = jax.eval_shape(lambda v: functional.merge(skeleton, v).init_carry(1), variables)
    shape = jax.ShapeDtypeStruct
    events = Events(
        shape((1, size, 2), np.float32),
        shape((1, size), np.int16),
        shape((1, size), np.int8),
        shape((1, 2), np.int32),
    )

    def run(variables, table, carry, events):
        model = functional.merge(skeleton, variables)
        at_step, reset = jnp.zeros((1, 1), jnp.int32), jnp.zeros(1, bool)
        options = {"integer_events": False} if real_events else {"table": table}
        out = model.backbone(events, at_step, reset, carry, start_phase=phase, event_sizes=(), **options)
        return model.detect(out.features, out.valid), out.carry

    return jax.jit(run, donate_argnums=2).lower(variables, table, carry, events).compile()
