"""Blocks of HMNet's latent memories (Hamaguchi et al. 2023, section 3); latents are [B, H, W, D]."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxdet.models.events import EventEmbedding, EventWrite, Mlp, gelu, kept
from jaxdet.nn.conv import Conv, Linear
from jaxdet.nn.functional import next_key
from jaxdet.nn.norm import GroupNorm, LayerNorm
from jaxdet.ops import attention, resize, window_attention_kernel
from jaxdet.structs import EventGeometry

WINDOW = 7  # cells a side of the windows in which memories attend to each other


def _group_norm(features: int):
    return GroupNorm(features, min(32, features))


class ConvNorm(nnx.Module):
    """3x3 convolution, group norm, `plus` and SiLU."""

    def __init__(self, features: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.conv = Conv(features, features, 3, rngs=rngs, dtype=dtype)
        self.norm = _group_norm(features)

    def __call__(self, x: Array, plus: Array | None = None, dtype: DTypeLike | None = None):
        return self.norm(kept(self.conv(x)), plus, silu=True, dtype=dtype)


class NormConv(nnx.Module):
    """Group norm, SiLU, convolution."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        stride: int = 1,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
    ):
        self.norm = _group_norm(in_features)
        self.conv = Conv(in_features, out_features, kernel_size, stride, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array):
        return kept(self.conv(self.norm(x, silu=True, dtype=self.conv.dtype)))


class ResidualPair(nnx.Module):
    """The two convolutions of a residual block, to the activation behind the second."""

    def __init__(self, features: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.conv1 = ConvNorm(features, rngs=rngs, dtype=dtype)
        self.conv2 = ConvNorm(features, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array, dtype: DTypeLike | None = None):
        return self.conv2(self.conv1(x), x, dtype)


class ResidualBlock(nnx.Module):
    """`silu(x + two convolutions of x)`, in `dtype` if it is given."""

    def __init__(self, features: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.residual = ResidualPair(features, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array, dtype: DTypeLike | None = None):
        return self.residual(x, dtype)


class InputResize(nnx.Module):
    """The lower latent brought to this memory's grid and width."""

    def __init__(self, in_features: int, features: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.downsample = NormConv(in_features, in_features, 3, 2, rngs=rngs, dtype=dtype)
        self.proj = NormConv(in_features, features, 1, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array):
        return self.proj(self.downsample(x))


class StridedReduction(nnx.Module):
    """Layer norm and a strided convolution with bias."""

    def __init__(self, features: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.reductions = nnx.List([Conv(features, features, 3, 2, use_bias=True, rngs=rngs, dtype=dtype)])
        self.norm = LayerNorm(features)

    def __call__(self, x: Array):
        return self.reductions[0](self.norm(x))


class NormLinear(nnx.Module):
    """Layer norm, GELU, affine map."""

    def __init__(
        self, in_features: int, out_features: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None
    ):
        self.norm = LayerNorm(in_features)
        self.linear = Linear(in_features, out_features, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array):
        return self.linear(gelu(self.norm(x)))


class MessageResize(nnx.Module):
    """The lower latent as the message generator sees it."""

    def __init__(self, in_features: int, features: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.downsample = StridedReduction(in_features, rngs=rngs, dtype=dtype)
        self.proj = NormLinear(in_features, features, rngs=rngs, dtype=dtype)

    def __call__(self, x: Array):
        return self.proj(self.downsample(x))


class QueryKeyValue(nnx.Module):
    """Projections of window attention."""

    def __init__(self, features: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.q = Linear(features, features, rngs=rngs, dtype=dtype)
        self.kv = Linear(features, 2 * features, rngs=rngs, dtype=dtype)


class RelativePositionBias(nnx.Module):
    """A logit per head for every offset from query to key."""

    def __init__(self, num_heads: int, *, rngs: nnx.Rngs):
        shape = (2 * WINDOW - 1, 2 * WINDOW - 1, num_heads)
        init = jax.nn.initializers.normal(0.02)
        self.position_embedding_table = nnx.Param(init(next_key(rngs), shape, jnp.float32))

    def __call__(self) -> Float[Array, "H s s"]:
        table = self.position_embedding_table[...]
        flat = table.reshape(-1, table.shape[-1])
        return jnp.transpose(flat[attention.relative_positions(WINDOW)], (2, 0, 1))


class WindowAttention(nnx.Module):
    """Attention of one grid to another of the same size inside 7x7 windows.

    Parity: padding at the bottom and right is not masked; padded cells act as keys made of the biases.
    `in_kernel`, for inference on CUDA: attention is one kernel, where `ops.window_attention_kernel` takes it.
    """

    def __init__(self, features: int, num_heads: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.qkv = QueryKeyValue(features, rngs=rngs, dtype=dtype)
        self.proj = Linear(features, features, rngs=rngs, dtype=dtype)
        self.relative_position_bias = RelativePositionBias(num_heads, rngs=rngs)
        self.num_heads, self.in_kernel = num_heads, False

    def __call__(self, query: Float[Array, "B H W D"], source: Float[Array, "B H W D"]):
        if self.in_kernel:
            q, kv, bias = self.qkv.q(query), self.qkv.kv(source), self.relative_position_bias()
            if window_attention_kernel.takes(q, self.num_heads):
                assert self.qkv.kv.bias is not None
                outside = self.qkv.kv.bias[...]
                return self.proj(window_attention_kernel.window_attention(q, kv, outside, bias, WINDOW))
        _, h, w, d = query.shape
        head_dim = d // self.num_heads
        q = kept(self.qkv.q(attention.windows(query, WINDOW))) * head_dim**-0.5
        kv = kept(self.qkv.kv(attention.windows(source, WINDOW)))
        q = q.reshape(*q.shape[:3], self.num_heads, head_dim)
        kv = kv.reshape(*kv.shape[:3], 2, self.num_heads, head_dim)
        out = attention.window_attention(q, kv[..., 0, :, :], kv[..., 1, :, :], self.relative_position_bias())
        return self.proj(attention.unwindows(out.reshape(*out.shape[:3], d), WINDOW, h, w))


class WindowWrite(nnx.Module):
    """Bottom-up write of an upper memory: window attention to the lower latent, then an MLP."""

    def __init__(
        self,
        in_features: int,
        features: int,
        num_heads: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
    ):
        self.input_resize = InputResize(in_features, features, rngs=rngs, dtype=dtype)
        self.norm_latent = LayerNorm(features)
        self.norm_input = LayerNorm(features)
        self.attn = WindowAttention(features, num_heads, rngs=rngs, dtype=dtype)
        self.norm_mlp = LayerNorm(features)
        self.mlp = Mlp(features, rngs=rngs, dtype=dtype)

    def __call__(self, latent: Array, lower: Array):
        source = self.input_resize(lower)
        latent = latent + self.attn(self.norm_latent(latent), self.norm_input(source))
        return latent + self.mlp(self.norm_mlp(latent))


class TopDownWrite(nnx.Module):
    """A message from above is added, then an MLP."""

    def __init__(self, features: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.norm_mlp = LayerNorm(features)
        self.mlp = Mlp(features, rngs=rngs, dtype=dtype)

    def __call__(self, latent: Array, message: Array):
        latent = latent + message
        return latent + self.mlp(self.norm_mlp(latent))


class MessageGenerator(nnx.Module):
    """Message for the memory below, of the size of its grid, from its latent and this memory's."""

    def __init__(
        self,
        in_features: int,
        features: int,
        num_heads: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
    ):
        self.input_resize = MessageResize(in_features, features, rngs=rngs, dtype=dtype)
        self.norm_latent = LayerNorm(features)
        self.norm_input = LayerNorm(features)
        self.attn = WindowAttention(features, num_heads, rngs=rngs, dtype=dtype)
        self.out_proj = NormLinear(features, in_features, rngs=rngs, dtype=dtype)

    def __call__(self, latent: Array, lower: Array):
        merged = self.attn(self.norm_input(self.input_resize(lower)), self.norm_latent(latent))
        return resize.bilinear(self.out_proj(merged), lower.shape[1:3]).astype(latent.dtype)


class Readout(nnx.Module):
    """Affine, layer norm, GELU."""

    def __init__(self, features: int, out_features: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.linear = Linear(features, out_features, rngs=rngs, dtype=dtype)
        self.norm = LayerNorm(out_features)

    def __call__(self, x: Array):
        return gelu(self.norm(self.linear(x)))


class LatentMemory(nnx.Module):
    """One memory: its initial latent and its blocks.

    The memory that events write to is the one with `lower_features` None.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        features: int,
        num_heads: int,
        depth: int,
        out_features: int,
        *,
        lower_features: int | None,
        has_upper: bool,
        event_features: int,
        geometry: EventGeometry,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
    ):
        kwargs = {"rngs": rngs, "dtype": dtype}
        init = jax.nn.initializers.normal(0.02)
        self.init_latent = nnx.Param(init(next_key(rngs), (1, grid[0] * grid[1], features), jnp.float32))
        if lower_features is None:
            self.embed = EventEmbedding(event_features, geometry, **kwargs)
            self.write_bottom_up: Any = EventWrite(features, 3 * event_features, num_heads, **kwargs)
            self.message_gen = None
        else:
            self.write_bottom_up = WindowWrite(lower_features, features, num_heads, **kwargs)
            self.message_gen = MessageGenerator(lower_features, features, num_heads, **kwargs)
        self.write_top_down = TopDownWrite(features, **kwargs) if has_upper else None
        self.update_norm = LayerNorm(features)
        self.update = nnx.List([ResidualBlock(features, **kwargs) for _ in range(depth)])
        self.norm_out = LayerNorm(features)
        self.proj_out = Readout(features, out_features, **kwargs)
        self.grid, self.dtype = grid, dtype

    def initial(self) -> Float[Array, "1 H W D"]:
        """The learned latent before the first step."""
        return self.init_latent[...].reshape(1, *self.grid, -1)

    def updated(self, latent: Array):
        """The latent after its residual blocks; the layer norm replaces it, as released."""
        x = self.update_norm(latent)
        if self.dtype is not None:
            x = x.astype(self.dtype)
        *blocks, last = self.update
        for block in blocks:
            x = block(x)
        return last(x, latent.dtype)

    def readout(self, latent: Array):
        """Features [B, H, W, out] that the neck reads."""
        return self.proj_out(self.norm_out(latent))
