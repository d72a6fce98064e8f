"""Functions that an exported file holds: an image to its boxes, and a step of events and state to both."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax

from jaxdet.inference import folded
from jaxdet.models import events as event_ops
from jaxdet.models.hmnet_backbone import HmnetCarry
from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.ops.select import Candidates
from jaxdet.structs import EventGeometry

Arrays = dict[str, Any]
BATCH = "batch"  # name of a number of images that is left to the caller


class Program(NamedTuple):
    """A detector as functions of named arrays, and what its inputs are.

    `propose(inputs) -> (candidates, valid, new state)`, `raw(inputs) -> outputs of the head`,
    `finish(candidates, valid) -> boxes, scores, labels, count`, best first and padded. `state` names the
    inputs that the next call takes from the outputs of the same names; zeros start a recording.
    """

    inputs: dict[str, jax.ShapeDtypeStruct]
    state: tuple[str, ...]
    propose: Callable[[Arrays], tuple[Candidates, Any, Arrays]]
    raw: Callable[[Arrays], Arrays]
    finish: Callable[[Candidates, Any], Arrays]
    rule: Any
    image_size: tuple[int, int] | None  # to which boxes are clipped

    def detect(self, inputs: Arrays) -> Arrays:
        """Boxes, and the new state."""
        candidates, valid, state = self.propose(inputs)
        return {**self.finish(candidates, valid), **state}


def of_images(
    skeleton: Skeleton, variables: Variables, size: tuple[int, int], batch: int | None = 1
) -> Program:
    """A detector of images [batch, 3, height, width], float32, 0..255; None leaves their number to the
    caller."""
    detector = _merged(skeleton, variables)

    def head(inputs: Arrays):
        pixels = jnp.transpose(inputs["images"], (0, 2, 3, 1))
        levels = detector.neck(detector.backbone.features(pixels, False, None))
        return detector.head(levels), [level.shape[1:3] for level in levels]

    def propose(inputs: Arrays):
        valid = jnp.ones((inputs["images"].shape[0], 1), bool)
        return detector.head.candidates(*head(inputs)), valid, {}

    count = export.symbolic_shape(BATCH)[0] if batch is None else batch
    shape = jax.ShapeDtypeStruct((count, 3, *size), jnp.float32)
    raw = lambda inputs: _named(head(inputs)[0])  # noqa: E731
    finish = _finish(detector)
    return Program({"images": shape}, (), propose, raw, finish, detector.rule, detector.image_size)


def of_events(skeleton: Skeleton, variables: Variables, num_events: int) -> Program:
    """A step of a recurrent detector, which takes up to `num_events` events and the state.

    The step fires the memories that are due by the state's own count of steps; at step 0 the state is
    replaced by that of a fresh recording.
    """
    detector = _merged(skeleton, variables)
    backbone = detector.backbone
    geometry: EventGeometry = backbone.geometry
    table = jax.jit(backbone.event_table)()
    fresh = backbone.init_carry(1)
    shapes = {
        "xy": jax.ShapeDtypeStruct((1, num_events, 2), jnp.float32),
        "t_us": jax.ShapeDtypeStruct((1, num_events), jnp.int32),
        "polarity": jax.ShapeDtypeStruct((1, num_events), jnp.int32),
        "count": jax.ShapeDtypeStruct((1,), jnp.int32),
    }
    state = to_state(fresh)
    shapes |= {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in state.items()}

    def head(inputs: Arrays):
        carry = _carry(inputs, fresh)
        new = _step(detector, geometry, table, carry, inputs)
        shown = (new.latent[0], *new.published)
        features = [m.readout(z) for m, z in zip(backbone.memories, shown, strict=True)]
        valid = jnp.ones((1, 1), bool)
        if backbone.num_memories > 1:
            valid = (carry.steps >= backbone.cycle)[:, None]
        features = [f * valid.reshape(-1, 1, 1, 1).astype(f.dtype) for f in features]
        levels = detector.neck(features)
        return detector.head(levels), [level.shape[1:3] for level in levels], valid, to_state(new)

    def propose(inputs: Arrays):
        raw, sizes, valid, new = head(inputs)
        return detector.head.candidates(raw, sizes), valid, new

    def raw(inputs: Arrays) -> Arrays:
        outputs, _, _, new = head(inputs)
        return {**_named(outputs), **new}

    return Program(shapes, tuple(state), propose, raw, _finish(detector), detector.rule, detector.image_size)


def _merged(skeleton: Skeleton, variables: Variables) -> Any:
    return functional.merge(*folded.prepare(skeleton, variables))


def _named(raw: Any) -> Arrays:
    """Outputs of the head by name: one array, or one a level."""
    return {f"raw_{i}": a for i, a in enumerate(raw)} if isinstance(raw, list) else {"raw": raw}


def to_state(carry: HmnetCarry) -> Arrays:
    """The carry of a recurrent detector as named arrays."""
    parts = {"latent": carry.latent, "message": carry.message, "published": carry.published}
    named = {f"{part}_{i + 1}": a for part, arrays in parts.items() for i, a in enumerate(arrays)}
    return {**named, "steps": carry.steps}


def _carry(inputs: Arrays, fresh: HmnetCarry) -> HmnetCarry:
    """The carry in `inputs`; that of a fresh recording before the first step."""
    first = (inputs["steps"] == 0)[0]
    state = {name: jnp.where(first, a, inputs[name]) for name, a in to_state(fresh).items()}

    def part(name: str, count: int) -> tuple[Any, ...]:
        return tuple(state[f"{name}_{i + 1}"] for i in range(count))

    sizes = len(fresh.latent), len(fresh.message), len(fresh.published)
    latent, message, published = map(part, ("latent", "message", "published"), sizes)
    return HmnetCarry(latent, message, published, state["steps"])


def _step(detector, geometry: EventGeometry, table, carry: HmnetCarry, inputs: Arrays) -> HmnetCarry:
    """One step of the memories due; a branch for each pattern of memories that fire together."""
    backbone = detector.backbone
    first = backbone.memories[0]
    xy, t_us, polarity, count = (inputs[name] for name in ("xy", "t_us", "polarity", "count"))
    rows, columns = backbone.grid
    num_cells = rows * columns
    real = jnp.arange(xy.shape[1])[None, :] < count[:, None]
    cell = jnp.where(real, event_ops.cells(xy, columns, geometry.window), num_cells)
    in_order = geometry.window == event_ops.SORTED_BY

    def write(latent):
        kv = table[event_ops.table_rows(xy, t_us, polarity, geometry)]
        attended = event_ops.attend(first.write_bottom_up, latent, kv, cell, in_order)
        new = first.write_bottom_up(latent, attended)
        return jnp.where((count > 0).reshape(-1, 1, 1, 1), new, latent)

    patterns = [backbone.pattern(phase) for phase in range(backbone.cycle)]
    different = sorted(set(patterns))
    branches = [lambda c, phase=phase: backbone.step(c, write, phase) for phase in different]
    if len(branches) == 1:
        return branches[0](carry)
    # Every branch reads the events, so they are ready before the choice.
    number = jnp.asarray(np.array([different.index(p) for p in patterns], np.int32))
    index = number[carry.steps[0] % backbone.cycle]
    return lax.switch(index, branches, carry)


def _finish(detector: Any) -> Callable[[Candidates, Any], Arrays]:
    def finish(candidates: Candidates, valid) -> Arrays:
        found = detector.select(candidates, valid)
        boxes, scores, labels, mask = (a[:, 0] for a in found)
        order = jnp.argsort(~mask, axis=-1, stable=True)
        kept = jnp.take_along_axis(mask, order, 1)
        rows = lambda a: jnp.take_along_axis(a, order, 1)  # noqa: E731
        return {
            "boxes": jnp.take_along_axis(boxes, order[..., None], 1) * kept[..., None],
            "scores": rows(scores) * kept,
            "labels": rows(labels) * kept,
            "count": mask.sum(1, dtype=jnp.int32),
        }

    return finish
