"""The gradient of a group norm and of what follows it as one or two GPU kernels.

XLA makes about fifteen kernels of it, most of them sums in two stages. With the sums over positions of each
channel, of the gradient and of its product with the normalised values, all other sums are short: a block of
threads that holds a group of an image takes both, then the gradient of its input; where several blocks share
a group, a kernel before it leaves those of each block.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

from jaxdet.ops.group_norm_kernel import NormOptions, Tiling, block, forward, joined, load


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def trained_group_norm(
    x: Shaped[Array, "B H W C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    parts: Float[Array, "K 2 C"],
    plus: Shaped[Array, "B H W C"] | None,
    options: NormOptions,
) -> Shaped[Array, "B H W C"]:
    """`group_norm_kernel.group_norm` for training.

    The gradient of scale and bias goes to `parts`, which is not read: to each of its K that of every K-th
    image, and none to `scale` and `bias`.
    """
    return _fwd(x, scale, bias, parts, plus, options)[0]


def _fwd(x: Array, scale: Array, bias: Array, parts: Array, plus: Array | None, options: NormOptions):
    y, statistics = forward(x, scale, bias, plus, options)
    return y, (x, scale, bias, parts, plus, statistics)


def _bwd(options: NormOptions, residuals: tuple[Any, ...], dy: Array):
    x, scale, bias, parts, plus, statistics = residuals
    images, _, _, features = x.shape
    tiling = Tiling.of(x, options.group_size)
    call = tiling.kernels(images, options.interpret)
    flat = lambda a: a.reshape(images, tiling.positions, features)  # noqa: E731
    make = partial(_Block, options, tiling, plus is not None)
    given = (*(flat(a) for a in (x, dy, plus) if a is not None), scale, bias, *statistics)
    if not tiling.at_once:
        sums = jax.ShapeDtypeStruct((images, tiling.padded_tiles, features), jnp.float32)
        given += tuple(call(partial(_sum, make), out_shape=(sums, sums), name="group_norm_sums")(*given))
    like = [jax.ShapeDtypeStruct(flat(a).shape, a.dtype) for a in (x, plus) if a is not None]
    total = jax.ShapeDtypeStruct((images, 2, features), parts.dtype)
    found = call(partial(_gradient, make), out_shape=(*like, total), name="group_norm_gradient")(*given)
    dplus = None if plus is None else found[1].reshape(x.shape)
    none = jnp.zeros_like(scale)
    return found[0].reshape(x.shape), none, none, _in_parts(found[-1], parts.shape), dplus


trained_group_norm.defvjp(_fwd, _bwd)


def _in_parts(of_images: Float[Array, "B 2 C"], shape: tuple[int, ...]) -> Float[Array, "K 2 C"]:
    """Sums over every K-th image."""
    padded = jnp.pad(of_images, ((0, -of_images.shape[0] % shape[0]), (0, 0), (0, 0)))
    return padded if padded.shape == shape else padded.reshape(-1, *shape).sum(0)


class _Block:
    """The part of a norm that a block of threads has: values [B, P, C], place and statistics."""

    def __init__(self, options: NormOptions, tiling: Tiling, has_plus: bool, refs: tuple[Any, ...]):
        count = 2 + has_plus
        self.values, weights, self.rest = refs[:count], refs[count : count + 2], refs[count + 2 :]
        self.silu, self.tiling, self.here = options.silu, tiling, block()
        self.columns = tiling.columns(self.here[1])
        self.scale, self.bias = (ref[self.columns].astype(jnp.float32)[None, :] for ref in weights)
        if tiling.at_once:
            mean, square, self.count = self._moments()
        else:
            (means, squares), self.rest = self.rest[:2], self.rest[2:]
            mean, square, self.count = joined(tiling, means, squares, self.here[:2])
        self.mean, self.inverse = mean, lax.rsqrt(square / self.count + options.eps)

    def _moments(self):
        count = float(self.tiling.positions * self.tiling.group_size)

        def total(function: Callable[[Array], Array]) -> Array:
            def add(number: Array, sum_: Array):
                index, mask = self.tiling.part(self.here, number)
                return sum_ + jnp.sum(jnp.where(mask, function(load(self.values[0], index, mask)), 0.0))

            return self.over_parts(add, jnp.float32(0))

        mean = total(lambda values: values) / count
        return mean, total(lambda values: (values - mean) * (values - mean)), count

    def over_parts(self, function: Callable[[Array, Any], Any], start: Any) -> Any:
        """`function(number, carried)` over the arrays of the block."""
        return lax.fori_loop(0, self.tiling.num_parts, function, start)

    def part(self, number: Array):
        """Index, mask, normalised values and gradient before the activation of an array of the block."""
        index, mask = self.tiling.part(self.here, number)
        x, dy, *plus = (load(ref, index, mask) for ref in self.values)
        normed = jnp.where(mask, (x - self.mean) * self.inverse, 0.0)
        if self.silu:
            before = normed * self.scale + self.bias
            before = before + plus[0] if plus else before
            share = jax.nn.sigmoid(before)
            dy = dy * share * (1 + before * (1 - share))
        return index, mask, normed, dy

    def sums(self) -> tuple[Array, Array]:
        """Sums [c] over the positions of the block: gradient times normalised values, and gradient."""

        def add(number: Array, sums: tuple[Array, Array]):
            _, _, normed, dy = self.part(number)
            return sums[0] + jnp.sum(dy * normed, 0), sums[1] + jnp.sum(dy, 0)

        none = jnp.zeros(self.tiling.group_size, jnp.float32)
        return self.over_parts(add, (none, none))

    def over_tiles(self, sums: Any) -> Array:
        """Sums [c] over the tiles of a group, of those [B, T, C] that `_sum` left."""
        tiles = self.tiling.padded_tiles
        tile = lax.iota(jnp.int32, tiles)[:, None]
        mask = jnp.broadcast_to(tile < self.tiling.tiles, (tiles, self.tiling.group_size))
        return jnp.sum(load(sums, (self.here[0], tile, self.columns[None, :]), mask), 0)


def _sum(make: Callable[[tuple[Any, ...]], _Block], *refs: Any):
    """Leave the sums of this tile."""
    here = make(refs)
    image, _, tile = here.here
    for out, total in zip(here.rest, here.sums(), strict=True):
        out[image, tile, here.columns] = total


def _gradient(make: Callable[[tuple[Any, ...]], _Block], *refs: Any):
    """The gradients of a tile; those of scale and bias are written by the first tile of a group."""
    from jax.experimental.pallas import triton

    here = make(refs)
    if here.tiling.at_once:
        total, outputs = here.sums(), here.rest
    else:
        total, outputs = tuple(here.over_tiles(ref) for ref in here.rest[:2]), here.rest[2:]
    dx, *dplus, of_weights = outputs
    along, level = (jnp.sum(here.scale[0] * a) / here.count for a in total)

    def write(number: Array, carried: Array):
        index, mask, normed, dy = here.part(number)
        inner = here.inverse * (here.scale * dy - level - normed * along)
        triton.store(dx.at[index], inner.astype(dx.dtype), mask=mask)
        for out in dplus:
            triton.store(out.at[index], dy.astype(out.dtype), mask=mask)
        return carried

    here.over_parts(write, 0)
    image, _, tile = here.here
    first = jnp.broadcast_to(tile == 0, (here.tiling.group_size,))
    for which, sums in enumerate(total):
        value = sums.astype(of_weights.dtype)
        triton.store(of_weights.at[image, which, here.columns], value, mask=first)
