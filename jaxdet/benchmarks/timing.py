"""Times of models, in ms and in a unit that is comparable between machines.

The unit is one plain 3x3 convolution from 256 to 256 channels on 60x76 positions, batch 1, float32. It is
timed in turn with the measured work, so that both run under the same conditions.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.structs import Batch, EventGeometry, Events, Images, Targets

_SORTED_BY = 4  # pixels per side of the windows by which the data layer sorts events


class Timing(NamedTuple):
    """Medians over interleaved pairs of the work and the unit."""

    ms: float
    unit_ms: float
    units: float  # ms / unit_ms

    def as_dict(self) -> dict[str, float]:
        return {key: round(value, 4) for key, value in self._asdict().items()}


class Cost(NamedTuple):
    """Compilation time and memory of a program."""

    compile_s: float  # tracing and compilation, or loading from the persistent cache
    device_mib: float  # arguments, results and temporaries, as planned by the compiler

    def as_dict(self) -> dict[str, float]:
        return {key: round(value, 2) for key, value in self._asdict().items()}


def compile_for(function, *arguments) -> tuple[Callable[..., Any], Cost]:
    """Compile a jitted `function` ahead of time for `arguments` -> (program, cost)."""
    begin = time.perf_counter()
    program = function.lower(*arguments).compile()
    took = time.perf_counter() - begin
    plan = program.memory_analysis()
    taken = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return program, Cost(took, taken / 2**20)


def interleaved(work: Callable[[], Any], pairs: int) -> Timing:
    """Time `work` and the unit in turn, `pairs` times after one run of each; `work` returns device arrays."""
    unit = _unit()
    _seconds(work), _seconds(unit)
    times = np.array([(_seconds(work), _seconds(unit)) for _ in range(pairs)])
    work_s, unit_s = np.median(times, 0)
    return Timing(work_s * 1e3, unit_s * 1e3, work_s / unit_s)


def _seconds(work) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - begin


def unit_seconds() -> float:
    """The least of nine times of the unit, in s, after one that compiles it."""
    unit = _unit()
    _seconds(unit)
    return min(_seconds(unit) for _ in range(9))


def _unit() -> Callable[[], Any]:
    x = jax.random.normal(jax.random.key(0), (1, 60, 76, 256))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 256, 256))
    conv = jax.jit(
        lambda x, k: lax.conv_general_dilated(
            x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )
    return lambda: conv(x, kernel)


def one_step(skeleton: Skeleton, variables: Variables, num_events: int, pairs: int) -> Timing:
    """Time of a streamed step of one lane up to scored candidates, averaged over the firing cycle.

    Suppression is left out; a step has `num_events` random events.
    """
    model = functional.merge(skeleton, variables)
    cycle = model.backbone.cycle
    table = jax.jit(lambda v: functional.merge(skeleton, v).backbone.event_table())(variables)
    events = random_events(np.random.default_rng(0), model.backbone.geometry, 1, 1, num_events)
    events = jax.device_put(events)

    @partial(jax.jit, static_argnums=3, donate_argnums=2)
    def step(variables, table, carry, phase):
        model = functional.merge(skeleton, variables)
        at_step, reset = jnp.zeros((1, 1), jnp.int32), jnp.zeros(1, bool)
        out = model.backbone(events, at_step, reset, carry, start_phase=phase, table=table)
        levels = model.neck(out.features)
        raw = model.head(levels)
        return out.carry, model.head.candidates(raw, [f.shape[1:3] for f in levels])

    carry = jax.tree.map(jnp.array, model.init_carry(1))

    def whole_cycle():
        nonlocal carry
        for phase in range(cycle):
            carry, found = step(variables, table, carry, model.backbone.pattern(phase))
            jax.block_until_ready(found)
        return carry

    timing = interleaved(whole_cycle, pairs)
    return Timing(timing.ms / cycle, timing.unit_ms, timing.units / cycle)


def segment(
    skeleton: Skeleton, variables: Variables, num_lanes: int, num_events: int, pairs: int
) -> tuple[Timing, Cost, int]:
    """Time and cost of `predict` over a segment of one firing cycle, and its number of steps.

    There are `num_lanes` lanes, `num_events` events per step and boxes after every step.
    """
    model = functional.merge(skeleton, variables)
    num_steps = model.backbone.cycle
    events = random_events(
        np.random.default_rng(0), model.backbone.geometry, num_lanes, num_steps, num_events
    )
    at_step = jnp.tile(jnp.arange(num_steps)[None], (num_lanes, 1))

    @jax.jit
    def predict(variables, events, carry):
        model = functional.merge(skeleton, variables)
        return model.predict(events, at_step, jnp.zeros(num_lanes, bool), carry)

    arguments = variables, jax.device_put(events), model.init_carry(num_lanes)
    program, cost = compile_for(predict, *arguments)
    return interleaved(lambda: program(*arguments), pairs), cost, num_steps


def images(
    skeleton: Skeleton, variables: Variables, batch_size: int, size: tuple[int, int], pairs: int
) -> tuple[Timing, Cost]:
    """Time and cost of `predict` on `batch_size` random images of `size` (height, width), pixels."""
    images = jax.random.randint(jax.random.key(0), (batch_size, *size, 3), 0, 255).astype(jnp.uint8)
    at_step, reset = jnp.zeros((batch_size, 1), jnp.int32), jnp.zeros(batch_size, bool)

    @jax.jit
    def predict(variables, pixels):
        return functional.merge(skeleton, variables).predict(Images(pixels), at_step, reset, ())[0]

    program, cost = compile_for(predict, variables, images)
    return interleaved(lambda: program(variables, images), pairs), cost


def train_segment(
    skeleton: Skeleton,
    variables: Variables,
    num_lanes: int,
    num_steps: int,
    num_events: int,
    pairs: int,
) -> tuple[Timing, Cost]:
    """Time and cost of loss and gradient of a segment, without the optimiser.

    The last step has one labelled slot per lane; the model's warm-up must end before it.
    """
    model = functional.merge(skeleton, variables)
    batch = segment_batch(model.backbone.geometry, num_lanes, num_steps, num_events)
    return _gradient(skeleton, variables, batch, model.init_carry(num_lanes), pairs)


def train_images(
    skeleton: Skeleton, variables: Variables, num_images: int, size: tuple[int, int], pairs: int
) -> tuple[Timing, Cost]:
    """Time and cost of loss and gradient of random images with two boxes each, without the optimiser.

    `size` is (height, width) in pixels.
    """
    return _gradient(skeleton, variables, image_batch(size, num_images), (), pairs)


def _gradient(skeleton, variables, batch, carry, pairs) -> tuple[Timing, Cost]:
    @jax.jit
    def gradient(variables, batch, carry):
        def loss(params):
            model = functional.merge(skeleton, variables._replace(params=params))
            total, _, after = model.loss(batch, carry)
            return total, (after, functional.batch_stats(model))

        return jax.value_and_grad(loss, has_aux=True)(variables.params)

    arguments = variables, jax.device_put(batch), carry
    program, cost = compile_for(gradient, *arguments)
    return interleaved(lambda: program(*arguments), pairs), cost


def segment_batch(geometry: EventGeometry, num_lanes: int, num_steps: int, num_events: int) -> Batch:
    """Random events, `num_events` per step and lane, with two boxes at the last step of every lane."""
    events = random_events(np.random.default_rng(0), geometry, num_lanes, num_steps, num_events)
    return Batch(events, _labels(num_lanes, num_steps - 1), np.ones(num_lanes, bool), None)


def image_batch(size: tuple[int, int], num_images: int) -> Batch:
    """Random images of `size` (height, width), pixels, with two boxes each."""
    images = np.random.default_rng(0).integers(0, 255, (num_images, *size, 3), np.uint8)
    return Batch(Images(images), _labels(num_images, 0), np.ones(num_images, bool), None)


def _labels(num_lanes: int, at_step: int) -> Targets:
    boxes = np.tile(np.array([[20, 30, 90, 80], [120, 100, 150, 190]], np.float32), (num_lanes, 1, 1, 1))
    lead = boxes.shape[:3]
    return Targets(
        boxes,
        np.tile(np.arange(2, dtype=np.int32), (num_lanes, 1, 1)),
        np.ones(lead, bool),
        np.zeros(lead, bool),
        np.full((num_lanes, 1), at_step, np.int32),
        np.ones((num_lanes, 1), bool),
    )


def random_events(
    rng: np.random.Generator, geometry: EventGeometry, num_lanes: int, num_steps: int, per_step: int
) -> Events:
    """`per_step` random events in every step and lane, uniform over sensor and step, in packed order."""
    height, width = geometry.size
    total = num_steps * per_step
    x, y = rng.integers(0, width, (num_lanes, total)), rng.integers(0, height, (num_lanes, total))
    step = np.repeat(np.arange(num_steps), per_step)
    cell = y // _SORTED_BY * (width // _SORTED_BY) + x // _SORTED_BY
    order = np.argsort(step[None] * height * width + cell, 1, kind="stable")
    xy = np.stack([np.take_along_axis(a, order, 1) for a in (x, y)], -1)
    starts = np.tile(np.arange(num_steps + 1, dtype=np.int32) * per_step, (num_lanes, 1))
    return Events(
        xy.astype(np.float32),
        rng.integers(0, geometry.step_us, (num_lanes, total)).astype(np.int16),
        rng.integers(0, 2, (num_lanes, total)).astype(np.int8),
        starts,
    )
