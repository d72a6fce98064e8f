"""From events to the first memory: embedding, slices of a step, and the sparse write."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from jaxdet.errors import InputError
from jaxdet.nn.conv import Linear
from jaxdet.nn.norm import LayerNorm
from jaxdet.ops import attention
from jaxdet.structs import EventGeometry, Events

SORTED_BY = 4  # pixels a side of the windows by which the host sorts the events of a step
PRODUCT = "product"
_GROWTH = 8  # not less: a program is compiled for every size


def kept(product: Array) -> Array:
    """Name the output of a convolution or affine map, for rematerialisation that keeps only these.

    Those of events stay nameless: there is one for every slice size, and the sizes not taken would be kept as
    zeros.
    """
    return checkpoint_name(product, PRODUCT)


def gelu(x: Array) -> Array:
    """Exact GELU in at least float32, which is also one kernel on GPUs where half types take two."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jax.nn.gelu(x.astype(wide), approximate=False).astype(x.dtype)


class EmbeddingLayer(nnx.Module):
    """Affine map, optionally with layer norm and ReLU."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        norm: bool,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
    ):
        self.linear = Linear(in_features, out_features, rngs=rngs, dtype=dtype)
        self.norm = LayerNorm(out_features) if norm else None

    def __call__(self, x: Array):
        x = self.linear(x)
        return x if self.norm is None else jax.nn.relu(self.norm(x))


class PositionEmbedding(nnx.Module):
    """Learned function [..., k] -> [..., features] of a position."""

    def __init__(self, in_features: int, features: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.embed = nnx.List(
            [
                EmbeddingLayer(in_features, features, True, rngs=rngs, dtype=dtype),
                EmbeddingLayer(features, features, False, rngs=rngs, dtype=dtype),
            ]
        )

    def __call__(self, x: Array):
        first, second = self.embed
        return second(first(x))


class EventEmbedding(nnx.Module):
    """Embedding [..., 3 * features] of an event's place in its window, its time bin and its polarity."""

    def __init__(
        self, features: int, geometry: EventGeometry, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None
    ):
        self.geometry = geometry
        self.xy = PositionEmbedding(2, features, rngs=rngs, dtype=dtype)
        self.time = PositionEmbedding(1, features, rngs=rngs, dtype=dtype)
        self.pol = PositionEmbedding(1, features, rngs=rngs, dtype=dtype)

    def __call__(self, inside: Float[Array, "*S 2"], time_bin: Array, polarity: Array):
        """Embed events.

        `inside` is x, y in the window, pixels in [0, `window`); `time_bin` is below `time_bins`; `polarity`
        is 0 or 1.
        """
        dtype, bins = inside.dtype, self.geometry.time_bins
        time = (time_bin.astype(dtype) - bins // 2) / bins
        sign = polarity.astype(dtype) * 2 - 1
        parts = [
            self.xy(inside - self.geometry.window / 2),
            self.time(time[..., None]),
            self.pol(sign[..., None]),
        ]
        return jnp.concatenate(parts, -1)


class Mlp(nnx.Module):
    """Affine, GELU, affine."""

    def __init__(self, features: int, ratio: int = 4, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.fc1 = Linear(features, ratio * features, rngs=rngs, dtype=dtype)
        self.fc2 = Linear(ratio * features, features, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array):
        return kept(self.fc2(gelu(kept(self.fc1(x)))))


class EventAttention(nnx.Module):
    """Projections of the event write, and the logit of its dustbin."""

    def __init__(
        self,
        features: int,
        event_features: int,
        num_heads: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
    ):
        self.dustbin_weights = nnx.Param(jnp.zeros(num_heads))
        self.q = Linear(features, features, rngs=rngs, dtype=dtype)
        self.kv = Linear(event_features, 2 * features, rngs=rngs, dtype=dtype)
        self.proj = Linear(features, features, rngs=rngs, dtype=dtype)
        self.num_heads = num_heads

    def query(self, x: Float[Array, "*S D"]) -> Float[Array, "*S H d"]:
        """Scaled queries."""
        q = kept(self.q(x))
        head_dim = q.shape[-1] // self.num_heads
        return q.reshape(*q.shape[:-1], self.num_heads, head_dim) * head_dim**-0.5

    def key_value(self, x: Float[Array, "*S C"]) -> Float[Array, "*S 2 H d"]:
        """Keys, then values."""
        kv = self.kv(x)
        return kv.reshape(*kv.shape[:-1], 2, self.num_heads, -1)


class EventWrite(nnx.Module):
    """Write block of the first memory: cells attend to their events and to a dustbin, then an MLP."""

    def __init__(
        self,
        features: int,
        event_features: int,
        num_heads: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
    ):
        self.norm_latent = LayerNorm(features)
        self.norm_input = LayerNorm(event_features)
        self.attn = EventAttention(features, event_features, num_heads, rngs=rngs, dtype=dtype)
        self.norm_mlp = LayerNorm(features)
        self.mlp = Mlp(features, rngs=rngs, dtype=dtype)

    def query(self, latent: Float[Array, "B H W D"]) -> Float[Array, "B S h d"]:
        """Queries of all cells, row-major."""
        b, h, w, d = latent.shape
        return self.attn.query(self.norm_latent(latent.reshape(b, h * w, d)))

    def key_value(self, embedded: Float[Array, "*S C"]) -> Float[Array, "*S 2 H d"]:
        """Keys and values of embedded events."""
        return self.attn.key_value(self.norm_input(embedded))

    def attended(self, message: Float[Array, "B S h d"]):
        """Projection [B, S, D] of the message that the cells gathered."""
        return kept(self.attn.proj(message.reshape(*message.shape[:2], -1)))

    def __call__(self, latent: Float[Array, "B H W D"], message: Float[Array, "B S h d"]):
        """The latent after residual attention and residual MLP."""
        latent = latent + self.attended(message).reshape(latent.shape)
        return latent + self.mlp(self.norm_mlp(latent))


def cells(xy: Float[Array, "*S 2"], width: int, size: int) -> Int[Array, "*S"]:
    """Window of `size` pixels a side that each event falls in, on a grid `width` cells wide.

    Parity: truncation, so that a flipped x in (-1, 0) belongs to window 0, with a place inside it in (3, 4).
    """
    window = jnp.trunc(xy / size).astype(jnp.int32)
    return window[..., 1] * width + window[..., 0]


def time_bins(t_us: Array, geometry: EventGeometry) -> Int[Array, "*S"]:
    """Part of its step that each event falls in, from its time since the step began."""
    return t_us.astype(jnp.int32) * geometry.time_bins // geometry.step_us


def key_values(
    embed: EventEmbedding, write: EventWrite, xy: Array, t_us: Array, polarity: Array, dtype: DTypeLike
):
    """Keys and values [..., 2, H, d] of events with real coordinates."""
    inside = jnp.mod(xy.astype(dtype), embed.geometry.window)
    return write.key_value(embed(inside, time_bins(t_us, embed.geometry), polarity))


def key_value_table(embed: EventEmbedding, write: EventWrite, dtype: DTypeLike) -> Float[Array, "R 2 H d"]:
    """Keys and values of all events that integer coordinates allow, rows as `table_rows` gives them."""
    side = jnp.arange(embed.geometry.window)
    axes = jnp.arange(embed.geometry.time_bins), side, side, jnp.arange(2)
    time_bin, x, y, polarity = (a.reshape(-1) for a in jnp.meshgrid(*axes, indexing="ij"))
    return write.key_value(embed(jnp.stack([x, y], -1).astype(dtype), time_bin, polarity))


def table_rows(xy: Array, t_us: Array, polarity: Array, geometry: EventGeometry) -> Int[Array, "*S"]:
    """Row of `key_value_table` of events with integer coordinates: time bin, x, y, polarity."""
    window = geometry.window
    inside = xy.astype(jnp.int32) % window
    time_bin = jnp.clip(time_bins(t_us, geometry), 0, geometry.time_bins - 1)
    return ((time_bin * window + inside[..., 0]) * window + inside[..., 1]) * 2 + polarity.astype(jnp.int32)


def growing(sizes: Sequence[int], total: int) -> list[int]:
    """`sizes`, and between the largest of them and `total` more, each `_GROWTH` times the one before.

    So a step with more events than they foresee takes time in proportion to its events, not to the segment.
    Raises InputError for sizes below 1.
    """
    sizes = sorted(sizes)
    if sizes and sizes[0] < 1:
        raise InputError(f"model.event_sizes has {sizes[0]}; expected numbers of events, 1 or more")
    while sizes and sizes[-1] * _GROWTH < total:
        sizes.append(sizes[-1] * _GROWTH)
    return sizes


class StepEvents:
    """The events of a segment, one step at a time, as slices of few fixed sizes.

    A step is read with the smallest size that holds it in every lane; the last size is the whole segment, so
    no event is lost. `width`, `num_cells` and `window` describe the grid of the first memory.
    """

    def __init__(self, events: Events, sizes: Sequence[int], width: int, num_cells: int, window: int):
        total = events.xy.shape[1]
        self.sizes = [*sorted(s for s in sizes if s < total), total]
        self.step_start, self.width, self.num_cells = events.step_start, width, num_cells
        self.window = window
        pad = lambda a: jnp.pad(a, ((0, 0), (0, total)) + ((0, 0),) * (a.ndim - 2))  # noqa: E731
        self.flat = (pad(events.xy), pad(events.t_us), pad(events.polarity))
        self.counts = events.step_start[:, 1:] - events.step_start[:, :-1]
        # Over all lanes once, so that devices need not ask each other at every step.
        self.largest = self.counts.max(0)

    def over(self, step: Array, function: Callable[..., Array]):
        """`function(xy, t_us, polarity, cell)` on the events of `step`; padding has cell `num_cells`."""
        start = lax.dynamic_index_in_dim(self.step_start, step, 1, keepdims=False)
        count = lax.dynamic_index_in_dim(self.counts, step, 1, keepdims=False)

        def reader(size: int):
            @jax.checkpoint
            def read(start: Array, count: Array):
                cut = jax.vmap(lambda a, s: lax.dynamic_slice_in_dim(a, s, size))
                xy, t_us, polarity = (cut(a, start) for a in self.flat)
                real = jnp.arange(size)[None, :] < count[:, None]
                cell = jnp.where(real, cells(xy, self.width, self.window), self.num_cells)
                return function(xy, t_us, polarity, cell)

            return read

        largest = lax.dynamic_index_in_dim(self.largest, step, 0, keepdims=False)
        index = sum((largest > size).astype(jnp.int32) for size in self.sizes[:-1])
        if len(self.sizes) == 1:
            return reader(self.sizes[0])(start, count)
        return lax.switch(index, [reader(size) for size in self.sizes], start, count)

    def written(self, per_lane: bool) -> Bool[Array, "B T"]:
        """Mask of the lanes that run the write at each step.

        Parity: as released, a step is skipped only if no lane has an event in it; `per_lane` decides for
        each.
        """
        some = self.counts > 0
        return some if per_lane else jnp.broadcast_to(some.any(0, keepdims=True), some.shape)


def attend(write: EventWrite, latent: Array, key_value: Array, cell: Array, in_order: bool = True) -> Array:
    """The message that each cell of `latent` gathers from events with `key_value` [B, E, 2, H, d]."""
    query = write.query(latent)
    key, value = key_value[:, :, 0], key_value[:, :, 1]
    return attention.event_attention(query, key, value, cell, write.attn.dustbin_weights[...], in_order)
