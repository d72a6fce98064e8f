"""Compiled programs of a live stream, shared by all streams of equal detectors."""

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.structs import Events

HIGH = 16  # bits below the row of an event in its first word


def event_table(skeleton: Skeleton, variables: Variables) -> jax.Array:
    """Keys and values of all events with whole coordinates, which `stream_step` reads."""
    return functional.merge(skeleton, variables).backbone.event_table()


def no_events(size: int) -> np.ndarray:
    """A step without events, padded to `size`: int32 [size + 1, 2], which takes one transfer.

    The first row is where the step's events start and end among them: 0 and their number. The row of an event
    holds y in the high and x in the low half of its first word, and the time since the step began, times two,
    plus the polarity in its second.
    """
    return np.zeros((size + 1, 2), np.int32)


def no_real_events(size: int) -> Events:
    """A step without events, padded to `size`, for events whose coordinates are not whole numbers."""
    columns = np.zeros((1, size), np.int16), np.zeros((1, size), np.int8)
    return Events(np.zeros((1, size, 2), np.float32), *columns, np.zeros((1, 2), np.int32))


def _unpacked(packed: jax.Array) -> Events:
    """The events of `no_events` with their one lane."""
    place, rest = packed[None, 1:, 0], packed[None, 1:, 1]
    xy = jnp.stack([place & (1 << HIGH) - 1, place >> HIGH], -1).astype(jnp.float32)
    return Events(xy, (rest >> 1).astype(jnp.int16), (rest & 1).astype(jnp.int8), packed[:1])


def stream_step(
    skeleton: Skeleton, phase: int, variables: Variables, table: jax.Array, carry: Any, events: Any
) -> tuple[jax.Array, Any]:
    """Boxes after a step of one lane as rows [D, 6], and its state; `phase` is static.

    `events` are laid out as in `no_events` or `no_real_events`. A row is x0, y0, x1, y1, score, label; no box
    has the label -1.
    """
    model = functional.merge(skeleton, variables)
    at_step, reset = jnp.zeros((1, 1), jnp.int32), jnp.zeros(1, bool)
    real = isinstance(events, Events)
    options = {"integer_events": False} if real else {"table": table}
    unpacked = events if real else _unpacked(events)
    out = model.backbone(unpacked, at_step, reset, carry, start_phase=phase, event_sizes=(), **options)
    found = model.detect(out.features, out.valid)
    label = jnp.where(found.det_mask, found.labels, -1).astype(found.boxes.dtype)
    return jnp.concatenate([found.boxes, found.scores[..., None], label[..., None]], -1)[0, 0], out.carry


@lru_cache(maxsize=256)
def step(skeleton: Skeleton, phase: int, size: int, real_events: bool) -> jax.stages.Compiled:
    """`stream_step` with room for `size` events; streams of equal detectors share it."""
    variables = functional.shapes(skeleton)
    table = jax.eval_shape(partial(event_table, skeleton), variables)
    carry = jax.eval_shape(lambda v: functional.merge(skeleton, v).init_carry(1), variables)
    events = no_real_events(size) if real_events else no_events(size)
    run = jax.jit(partial(stream_step, skeleton, phase), donate_argnums=2)
    return run.lower(variables, table, carry, events).compile()
