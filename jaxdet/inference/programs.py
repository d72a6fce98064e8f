"""Compiled programs of live streams, shared by all streams of equal detectors."""

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


def no_events(size: int, num_lanes: int = 1) -> np.ndarray:
    """A step of lanes without events, padded to `size`: int32 [B, size + 1, 2], which takes one transfer.

    The first row of a lane is where the step's events start and end among them: 0 and their number. The row
    of an event holds y in the high and x in the low half of its first word, and the time since the step
    began, times two, plus the polarity in its second.
    """
    return np.zeros((num_lanes, size + 1, 2), np.int32)


def no_real_events(size: int, num_lanes: int = 1) -> Events:
    """A step without events, padded to `size`, for events whose coordinates are not whole numbers."""
    columns = np.zeros((num_lanes, size), np.int16), np.zeros((num_lanes, size), np.int8)
    return Events(np.zeros((num_lanes, size, 2), np.float32), *columns, np.zeros((num_lanes, 2), np.int32))


def _unpacked(packed: jax.Array) -> Events:
    """The events of `no_events`."""
    place, rest = packed[:, 1:, 0], packed[:, 1:, 1]
    xy = jnp.stack([place & (1 << HIGH) - 1, place >> HIGH], -1).astype(jnp.float32)
    return Events(xy, (rest >> 1).astype(jnp.int16), (rest & 1).astype(jnp.int8), packed[:, 0])


def stream_step(
    skeleton: Skeleton,
    phase: int,
    variables: Variables,
    table: jax.Array,
    carries: tuple[Any, ...],
    events: Any,
) -> tuple[jax.Array, tuple[Any, ...]]:
    """Boxes after a step of B lanes as rows [B, D, 6], and the state of each lane; `phase` is static.

    `carries` are the states of the lanes, which do not know each other. `events` are laid out as in
    `no_events` or `no_real_events`. A row is x0, y0, x1, y1, score, label; no box has the label -1.
    """
    model, num_lanes = functional.merge(skeleton, variables), len(carries)
    carry = carries[0] if num_lanes == 1 else jax.tree.map(lambda *lanes: jnp.concatenate(lanes), *carries)
    at_step, reset = jnp.zeros((num_lanes, 1), jnp.int32), jnp.zeros(num_lanes, bool)
    real = isinstance(events, Events)
    options = {"integer_events": False} if real else {"table": table}
    unpacked = events if real else _unpacked(events)
    out = model.backbone(
        unpacked,
        at_step,
        reset,
        carry,
        start_phase=phase,
        event_sizes=(),
        empty_step_per_lane=num_lanes > 1 or None,
        **options,
    )
    found = model.detect(out.features, out.valid)
    label = jnp.where(found.det_mask, found.labels, -1).astype(found.boxes.dtype)
    rows = jnp.concatenate([found.boxes, found.scores[..., None], label[..., None]], -1)[:, 0]
    return rows, tuple(jax.tree.map(lambda a, i=i: a[i : i + 1], out.carry) for i in range(num_lanes))


@lru_cache(maxsize=256)
def step(
    skeleton: Skeleton, phase: int, size: int, real_events: bool, num_lanes: int = 1
) -> jax.stages.Compiled:
    """`stream_step` with room for `size` events a lane; streams of equal detectors share it."""
    variables = functional.shapes(skeleton)
    table = jax.eval_shape(partial(event_table, skeleton), variables)
    carry = jax.eval_shape(lambda v: functional.merge(skeleton, v).init_carry(1), variables)
    events = no_real_events(size, num_lanes) if real_events else no_events(size, num_lanes)
    run = jax.jit(partial(stream_step, skeleton, phase), donate_argnums=2)
    return run.lower(variables, table, (carry,) * num_lanes, events).compile()
