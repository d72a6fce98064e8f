"""Layers for training on GPUs: the same results, gradients in few kernels and one message between devices.

The steps of HMNet are short, so that launches cost more than arithmetic. Gradients of scales and biases are
sums over all rows of an input, which take two kernels. Those of a step are left in parts
(`ops.layer_norm.PARTS`), as gradients of repeated scales and biases; the gradient of the repetition adds the
parts once in a segment. In the same way each device leaves the gradients of its own lanes, and all of them
are added at the end, in one message, and not layer by layer at every step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from jaxdet.nn import functional
from jaxdet.nn.conv import Conv, Linear
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.nn.norm import GroupNorm, LayerNorm
from jaxdet.ops import affine, group_norm_kernel
from jaxdet.ops import layer_norm as layer_norms
from jaxdet.ops.group_norm_gradient import trained_group_norm
from jaxdet.ops.group_norm_kernel import NormOptions

_LANES, _WHOLE = PartitionSpec("data"), PartitionSpec()


def in_few_kernels(
    skeleton: Skeleton, variables: Variables, mesh: Mesh, interpret: bool = False
) -> tuple[Skeleton, Variables]:
    """The same model with these layers for the devices of `mesh`, to be made in the function differentiated.

    `interpret` runs their kernels on any device, slowly, for tests.
    """
    model = functional.merge(skeleton, variables)
    own = _Own(model, mesh)
    kinds: dict[type, Callable[[Any], nnx.Module]] = {
        LayerNorm: lambda norm: TrainedLayerNorm(norm, own, interpret),
        GroupNorm: lambda norm: TrainedGroupNorm(norm, own, interpret),
    }
    if mesh.size == 1:
        kinds[Linear] = lambda linear: linear if linear.bias is None else TrainedLinear(linear, own)
    else:
        kinds[Conv] = kinds[Linear] = lambda layer: LayerOfDevice(layer, own)
    for kind, make in kinds.items():
        functional.replace_layers(model, kind, make)
    return functional.split(model)


class _Own:
    """Weights of layers as every device has them: [D, ...], whose gradients are those of its own lanes.

    They are slices of one array, so that its gradient, the sum over devices, is one message.
    """

    def __init__(self, model: nnx.Module, mesh: Mesh):
        self.mesh, self._found = mesh, {}
        kinds = Conv | Linear | LayerNorm | GroupNorm
        layers = [module for _, module in nnx.iter_modules(model) if isinstance(module, kinds)]
        weights = [value for layer in layers for value in vars(layer).values() if _is_param(value)]
        if mesh.size == 1 or not weights:
            return
        flat = jnp.concatenate([weight[...].reshape(-1) for weight in weights])
        each = jnp.broadcast_to(flat, (mesh.size, flat.size))
        each = lax.with_sharding_constraint(each, NamedSharding(mesh, _LANES))
        ends = np.cumsum([weight[...].size for weight in weights])[:-1]
        for weight, piece in zip(weights, jnp.split(each, ends, 1), strict=True):
            self._found[id(weight)] = piece.reshape(mesh.size, *weight.shape)

    def __call__(self, weight: nnx.Param) -> Array:
        return weight[...][None] if self.mesh.size == 1 else self._found[id(weight)]

    def in_parts(self, *vectors: nnx.Param) -> Float[Array, "K V C"]:
        """Vectors one beside the other, `PARTS` times for each device."""
        together = jnp.stack([self(vector) for vector in vectors], 1)
        shape = together.shape[0], layer_norms.PARTS, *together.shape[1:]
        return jnp.broadcast_to(together[:, None], shape).reshape(-1, *together.shape[1:])


def _is_param(value: Any) -> bool:
    return isinstance(value, nnx.Param)


class _TrainedNorm(nnx.Module):
    """A norm and where the gradients of its scale and bias go.

    Each device runs the kernels on its own lanes; XLA could not divide them.
    """

    def __init__(self, plain: LayerNorm | GroupNorm, own: _Own, interpret: bool):
        self.plain, self.mesh, self.interpret = plain, own.mesh, interpret
        self.parts = nnx.Param(own.in_parts(plain.scale, plain.bias))

    def _run(self, kernels: Callable[..., Array], x: Array, *rest: Array | None) -> Array:
        """`kernels(x, scale, bias, parts, *rest)` on each device."""
        if self.mesh.size > 1:
            specs = _LANES, _WHOLE, _WHOLE, _LANES, *(_LANES for _ in rest)
            kernels = jax.shard_map(
                kernels, mesh=self.mesh, in_specs=specs, out_specs=_LANES, check_vma=False
            )
        return kernels(x, *_fixed(self.plain.scale, self.plain.bias), self.parts[...], *rest)


class TrainedLayerNorm(_TrainedNorm):
    """A `LayerNorm` whose gradient is one kernel."""

    def __call__(self, x: Shaped[Array, "*S C"]) -> Shaped[Array, "*S C"]:
        if not layer_norms.takes(x) or x.shape[0] % self.mesh.size:
            return self.plain(x)
        eps, interpret = self.plain.eps, self.interpret
        return self._run(lambda *arrays: layer_norms.trained_layer_norm(*arrays, eps, interpret), x)


class TrainedGroupNorm(_TrainedNorm):
    """A `GroupNorm` that is one or two kernels, as is its gradient."""

    def __call__(
        self,
        x: Shaped[Array, "B H W C"],
        plus: Shaped[Array, "B H W C"] | None = None,
        silu: bool = False,
        dtype: DTypeLike | None = None,
    ) -> Shaped[Array, "B H W C"]:
        plain = self.plain
        assert isinstance(plain, GroupNorm)
        if not group_norm_kernel.takes(x, plain.group_size) or x.shape[0] % self.mesh.size:
            return plain(x, plus, silu, dtype)
        options = NormOptions(plain.group_size, plain.eps, silu, dtype, self.interpret)
        return self._run(lambda *arrays: trained_group_norm(*arrays, options), x, plus)


class TrainedLinear(nnx.Module):
    """A `Linear` with bias on one device, whose gradient takes three kernels."""

    def __init__(self, linear: Linear, own: _Own):
        assert linear.bias is not None
        self.kernel, self.bias, self.dtype = linear.kernel, linear.bias, linear.dtype
        self.parts = nnx.Param(own.in_parts(linear.bias)[:, 0])

    def __call__(self, x: Shaped[Array, "*S Ci"]) -> Shaped[Array, "*S Co"]:
        dtype = self.dtype or x.dtype
        weights = self.kernel[...].astype(dtype), *_fixed(self.bias), self.parts[...]
        return affine.trained_affine(x.astype(dtype), *weights)


class LayerOfDevice(nnx.Module):
    """A layer of which each of several devices has the gradient of its own lanes."""

    def __init__(self, layer: Conv | Linear, own: _Own):
        self.layer, self.mesh, self.dtype = layer, own.mesh, layer.dtype
        self.own = nnx.Dict({name: nnx.Param(own(w)) for name, w in vars(layer).items() if _is_param(w)})

    def __call__(self, x: Shaped[Array, "B *S Ci"]) -> Shaped[Array, "B *So Co"]:
        if x.shape[0] % self.mesh.size:
            return self.layer(x)
        skeleton, variables = functional.split(self.layer)
        own = {name: weight[...] for name, weight in self.own.items()}
        run = jax.shard_map(
            partial(_apart, skeleton),
            mesh=self.mesh,
            in_specs=(_LANES, _WHOLE, _LANES),
            out_specs=_LANES,
            check_vma=False,
        )
        return run(x, lax.stop_gradient(variables.params), own)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _apart(skeleton: Skeleton, x: Array, params: functional.Tree, own: functional.Tree) -> Array:
    """The layer; the gradient of `params` goes to `own` [1, ...], which is not read."""
    return functional.merge(skeleton, Variables(params, {}))(x)


def _apart_fwd(skeleton: Skeleton, x: Array, params: functional.Tree, own: functional.Tree):
    return _apart(skeleton, x, params, own), (x, params)


def _apart_bwd(skeleton: Skeleton, residuals: tuple[Array, functional.Tree], dy: Array):
    x, params = residuals
    plain = lambda x, params: functional.merge(skeleton, Variables(params, {}))(x)  # noqa: E731
    dx, dparams = jax.vjp(plain, x, params)[1](dy)
    none = jax.tree.map(jnp.zeros_like, params)
    return dx, none, jax.tree.map(lambda a: a[None], dparams)


_apart.defvjp(_apart_fwd, _apart_bwd)


def _fixed(*vectors: nnx.Param) -> tuple[Array, ...]:
    return tuple(lax.stop_gradient(vector[...]) for vector in vectors)
