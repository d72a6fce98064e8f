"""HMNet: latent memories of falling rate over a stream of events (Hamaguchi et al., CVPR 2023).

Memory i fires every `periods[i]` steps. The pattern repeats with the longest period and is known when the
step is traced, so a segment is a scan over whole cycles whose steps are unrolled. No branch depends on data
but the choice of the slice size for the events.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from jaxdet.errors import InputError
from jaxdet.models import events as event_ops
from jaxdet.models.detector import BackboneOutput
from jaxdet.models.events import StepEvents
from jaxdet.models.memory import LatentMemory
from jaxdet.ops import resize
from jaxdet.structs import EventGeometry, Events


class HmnetCarry(NamedTuple):
    """State of B lanes between steps, one entry per memory but for the first where noted.

    `published` are latents, read out when a slot asks for them: a memory's latent stands still between its
    last firing and the publication, so the readout made then equals the one made at the firing.
    """

    latent: tuple[Array, ...]  # [B, H, W, D]
    message: tuple[Array, ...]  # as the latent below   memories 2.., for the memory below; lives one step
    published: tuple[Array, ...]  # [B, H, W, D]   memories 2.., the latent of the last finished cycle
    steps: Int[Array, " B"]  # since the lane's reset


_State = tuple[HmnetCarry, tuple[Array, ...]]  # and the latents shown in slots, of each memory


class Hmnet(nnx.Module):
    """The backbone: events in, features of the labelled steps out.

    `image_size` (height, width) is the size of the sensor, or up to that in whole cells of the last memory.
    The grid of the first memory has a cell for every `geometry.window` pixels, those of the further memories
    half as many rows and columns as the one below; all are rounded up. `periods` must each divide the next,
    the first being 1. `event_sizes` are the slice sizes tried for a step before the whole segment is read,
    outside training with larger ones between them and it. `integer_events`: outside training, coordinates are
    integers and keys and values come from a table. `empty_step_per_lane`: a lane without events in a step
    skips the write, whatever its neighbours have. `remat`: in training, recompute each cycle in the backward
    pass; with `keep_products` only what lies between convolutions and affine maps, for about 22 MB a lane and
    step of B1.
    """

    def __init__(
        self,
        geometry: EventGeometry,
        image_size: tuple[int, int],
        widths: Sequence[int] = (128, 256, 256),
        num_heads: Sequence[int] = (4, 8, 8),
        depths: Sequence[int] = (1, 3, 9),
        periods: Sequence[int] = (1, 3, 9),
        out_features: int = 256,
        event_features: int = 32,
        *,
        rngs: nnx.Rngs,
        event_sizes: Sequence[int] = (2048, 16384),
        integer_events: bool = True,
        empty_step_per_lane: bool = False,
        remat: bool = True,
        keep_products: bool = False,
        dtype: DTypeLike | None = None,
    ):
        _check(geometry, image_size, widths, num_heads, depths, periods)
        grids = resize.grids_of(image_size, geometry.window, len(widths))
        self.geometry = geometry
        self.num_memories = len(widths)
        for i in range(self.num_memories):
            memory = LatentMemory(
                grids[i],
                widths[i],
                num_heads[i],
                depths[i],
                out_features,
                lower_features=widths[i - 1] if i else None,
                has_upper=i + 1 < self.num_memories,
                event_features=event_features,
                geometry=geometry,
                rngs=rngs,
                dtype=dtype,
            )
            setattr(self, f"memory{i + 1}", memory)
        self.grid, self.periods, self.event_sizes = grids[0], tuple(periods), tuple(event_sizes)
        self.integer_events, self.empty_step_per_lane, self.remat = integer_events, empty_step_per_lane, remat
        self.keep_products = keep_products

    @property
    def memories(self) -> list[LatentMemory]:
        """First to last."""
        return [getattr(self, f"memory{i + 1}") for i in range(self.num_memories)]

    @property
    def cycle(self) -> int:
        """Steps after which the firing pattern repeats."""
        return self.periods[-1]

    def pattern(self, phase: int) -> int:
        """The first phase at which the same blocks run as at `phase`: one compiled step serves both."""
        fires = lambda p: [(p % f == 0, (p - 1) % f == 0) for f in self.periods]  # noqa: E731
        return next(p for p in range(self.cycle) if fires(p) == fires(phase))

    def init_carry(self, batch_size: int) -> HmnetCarry:
        """State of lanes that have seen no step."""
        latent = tuple(
            jnp.broadcast_to(m.initial(), (batch_size, *m.initial().shape[1:])) for m in self.memories
        )
        message = tuple(jnp.zeros_like(z) for z in latent[:-1])
        return HmnetCarry(latent, message, latent[1:], jnp.zeros(batch_size, jnp.int32))

    def __call__(
        self,
        inputs: Events,
        at_step: Int[Array, "B K"],
        reset: Bool[Array, " B"],
        carry: HmnetCarry,
        train: bool = False,
        start_phase: int = 0,
        table: Array | None = None,
        event_sizes: Sequence[int] | None = None,
        empty_step_per_lane: bool | None = None,
        integer_events: bool | None = None,
    ) -> BackboneOutput:
        """Run a segment. Slot k of a lane gets the features after step `at_step` of it, -1 being no slot.

        `start_phase`: steps modulo the cycle that every lane has behind it; lanes may be reset only at phase
        0. `table`: `event_table()`, if it was made ahead. `event_sizes`, `empty_step_per_lane` and
        `integer_events` are those of the model unless they are given.
        """
        if event_sizes is None:
            event_sizes = self.event_sizes
        if empty_step_per_lane is None:
            empty_step_per_lane = self.empty_step_per_lane
        if integer_events is None:
            integer_events = self.integer_events
        num_steps = inputs.step_start.shape[1] - 1
        carry = self._reset(reset, carry)
        steps_before = carry.steps
        if not train:
            event_sizes = event_ops.growing(event_sizes, inputs.xy.shape[1])
        events = StepEvents(
            inputs, event_sizes, self.grid[1], self.grid[0] * self.grid[1], self.geometry.window
        )
        if table is None and integer_events and not train:
            table = self.event_table()
        stepper = self.stepper(events, table, empty_step_per_lane)
        slot_of_step = _slot_of_step(at_step, num_steps)
        slots = tuple(
            jnp.zeros((at_step.shape[0], at_step.shape[1], *z.shape[1:]), z.dtype) for z in carry.latent
        )

        def one_step(state: _State, step: Array, phase: int):
            carry, slots = state
            carry = stepper(carry, step, phase)
            slot = lax.dynamic_index_in_dim(slot_of_step, step, 1, keepdims=False)
            shown = (carry.latent[0], *carry.published)
            return carry, tuple(_put(s, slot, z) for s, z in zip(slots, shown, strict=True))

        carry, slots = self._over_segment(one_step, (carry, slots), num_steps, start_phase, train)
        features = [m.readout(s.reshape(-1, *s.shape[2:])) for m, s in zip(self.memories, slots, strict=True)]
        valid = self._valid(at_step, num_steps, steps_before)
        features = [f * valid.reshape(-1, 1, 1, 1).astype(f.dtype) for f in features]
        return BackboneOutput(features, valid, carry)

    def _over_segment(
        self,
        one_step: Callable[[_State, Array, int], _State],
        state: _State,
        num_steps: int,
        start_phase: int,
        train: bool,
    ) -> _State:
        """`one_step(state, step, phase)` over a segment: its whole cycles in a scan, then the other steps."""

        def one_cycle(state: _State, first: Array):
            for i in range(self.cycle):
                state = one_step(state, first + i, (start_phase + i) % self.cycle)
            return state, None

        body = one_cycle
        if train and self.remat:
            keep = jax.checkpoint_policies.save_only_these_names(event_ops.PRODUCT)
            policy = keep if self.keep_products else None
            body = jax.checkpoint(one_cycle, prevent_cse=False, policy=policy)
        num_cycles = num_steps // self.cycle
        if num_cycles == 1:
            state, _ = body(state, jnp.asarray(0))
        elif num_cycles > 1:
            state, _ = lax.scan(body, state, jnp.arange(num_cycles) * self.cycle)
        for step in range(num_cycles * self.cycle, num_steps):
            state = one_step(state, jnp.asarray(step), (start_phase + step) % self.cycle)
        return state

    def event_table(self) -> Float[Array, "R 2 H d"]:
        """Keys and values of all events with integer coordinates."""
        first = self.memories[0]
        return event_ops.key_value_table(first.embed, first.write_bottom_up, first.init_latent[...].dtype)

    def stepper(self, events: StepEvents, rows: Array | None, per_lane: bool):
        """Function (carry, step of the segment, phase) -> carry; `rows` is the event table or None.

        With `per_lane` each lane skips the write by its own events.
        """
        first = self.memories[0]
        dtype = first.init_latent[...].dtype
        in_order = self.geometry.window == event_ops.SORTED_BY
        written = events.written(per_lane)

        def write(latent: Array, step: Array):
            def attend(xy: Array, t_us: Array, polarity: Array, cell: Array):
                if rows is None:
                    kv = event_ops.key_values(first.embed, first.write_bottom_up, xy, t_us, polarity, dtype)
                else:
                    kv = rows[event_ops.table_rows(xy, t_us, polarity, self.geometry)]
                return event_ops.attend(first.write_bottom_up, latent, kv, cell, in_order)

            new = first.write_bottom_up(latent, events.over(step, attend))
            return _where(lax.dynamic_index_in_dim(written, step, 1, keepdims=False), new, latent)

        return lambda carry, step, phase: self.step(carry, lambda latent: write(latent, step), phase)

    def step(self, carry: HmnetCarry, write_events: Callable[[Array], Array], phase: int) -> HmnetCarry:
        """One step of all memories; `write_events` maps the first latent to the one the events wrote to.

        All memories read what the step before left: the lower latent, the message from above. `phase` is the
        number of steps since reset modulo the cycle, a Python int.
        """
        memories, periods = self.memories, self.periods
        latent, message, published = list(carry.latent), list(carry.message), list(carry.published)
        for i in range(1, self.num_memories):
            if phase % periods[i] == 0:  # a cycle of memory i has ended
                published[i - 1] = carry.latent[i]
                generator = memories[i].message_gen
                assert generator is not None
                message[i - 1] = generator(carry.latent[i], carry.latent[i - 1])
        for i, memory in enumerate(memories):
            if (phase - 1) % periods[i]:
                continue
            z = carry.latent[i]
            if memory.write_top_down is not None and (phase - 1) % periods[i + 1] == 0:
                # The message was made a step ago; those of the first cycle do not count.
                warm = carry.steps > periods[i + 1] + 2
                z = _where(warm, memory.write_top_down(z, carry.message[i]), z)
            z = memory.write_bottom_up(z, carry.latent[i - 1]) if i else write_events(z)
            latent[i] = memory.updated(z)
        return HmnetCarry(tuple(latent), tuple(message), tuple(published), carry.steps + 1)

    def _reset(self, reset: Array, carry: HmnetCarry):
        fresh = self.init_carry(reset.shape[0])
        return jax.tree.map(lambda a, b: _where(reset, a, b), fresh, carry)

    def _valid(self, at_step: Array, num_steps: int, steps_before: Array):
        """Slots inside the segment where every memory has published."""
        inside = (at_step >= 0) & (at_step < num_steps)
        if self.num_memories == 1:
            return inside
        return inside & (steps_before[:, None] + at_step >= self.cycle)


def _check(
    geometry: EventGeometry,
    image_size: Sequence[int],
    widths: Sequence[int],
    num_heads: Sequence[int],
    depths: Sequence[int],
    periods: Sequence[int],
):
    if len({len(widths), len(num_heads), len(depths), len(periods)}) != 1:
        raise InputError(
            f"{len(widths)} widths, {len(num_heads)} num_heads, {len(depths)} depths, {len(periods)} "
            "periods: give one of each per memory"
        )
    multiple = geometry.window << (len(periods) - 1)
    whole = tuple(-(-pixels // multiple) * multiple for pixels in geometry.size)
    if not all(a <= b <= c for a, b, c in zip(geometry.size, image_size, whole, strict=True)):
        raise InputError(
            f"model.image_size is {tuple(image_size)}, the sensor (data.height, data.width) {geometry.size}, "
            f"which takes {geometry.size}, or up to {whole} with padding; make them agree"
        )
    if not 0 < geometry.step_us <= np.iinfo(np.int16).max:
        raise InputError(f"step of {geometry.step_us} us, expected 1 to 32767; change data.step_us")
    if periods[0] != 1 or any(b % a for a, b in itertools.pairwise(periods)):
        raise InputError(f"periods {tuple(periods)}: the first must be 1 and each must divide the next")


def _where(lanes: Bool[Array, " B"], a: Array, b: Array):
    return jnp.where(lanes.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)


def _slot_of_step(at_step: Int[Array, "B K"], num_steps: int) -> Int[Array, "B T"]:
    """Slot that each step fills; K where none does."""
    match = at_step[:, :, None] == jnp.arange(num_steps)[None, None, :]
    return jnp.where(match.any(1), jnp.argmax(match, 1), at_step.shape[1])


def _put(slots: Float[Array, "B K H W D"], slot: Int[Array, " B"], value: Float[Array, "B H W D"]):
    """Write each lane's value into its slot; slot K is nowhere."""
    return jax.vmap(lambda s, i, v: s.at[i].set(v, mode="drop", unique_indices=True))(slots, slot, value)
