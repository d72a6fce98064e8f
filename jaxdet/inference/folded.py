"""Models rearranged for inference: the same function in fewer and larger operations."""

from dataclasses import replace
from typing import Any

import jax
from flax import nnx

from jaxdet.models.heads import HeadLevel
from jaxdet.models.memory import RelativePositionBias, WindowAttention
from jaxdet.models.merged_csp import MERGED
from jaxdet.models.merged_head import MergedLevel
from jaxdet.nn import prepared, winograd
from jaxdet.nn.block import ConvBlock
from jaxdet.nn.fold import fold
from jaxdet.nn.functional import Skeleton, Variables, merge, replaced, split
from jaxdet.nn.norm import GroupNorm
from jaxdet.ops import kernel_trial


def prepare(
    skeleton: Skeleton, variables: Variables, fast: bool = False, on_gpu: bool | None = None
) -> tuple[Skeleton, Variables]:
    """Fold norms into convolutions, and merge the first convolutions of both branches of a head into one.

    Outputs change by float32 rounding. Weights are cast to their compute type, and biases of positions looked
    up, once and not at every step. With `on_gpu` (default: where JAX's default device is one that passes
    `ops.kernel_trial`, unless JAXDET_GPU_FORM is 0) weights are laid out as cuDNN reads them, the branches of
    a head are merged whole, both paths of a cross-stage-partial block begin with one convolution, and group
    norms, window attention and suppression are kernels of their own. `fast` (for CPU) also uses Winograd's
    algorithm for wide 3x3 convolutions, with an error of about 1e-5 of the largest output of each.
    Works on trained and converted models; the result can be neither trained nor stored.
    """
    skeleton, variables = replaced(*fold(skeleton, variables), RelativePositionBias, KnownBias)
    model = merge(skeleton, variables)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, HeadLevel) and isinstance(module.cls_conv[0], ConvBlock):
            _merge_branches(module)
    skeleton, variables = split(model)
    if fast:
        skeleton, variables = winograd.accelerate(skeleton, variables)
    if on_gpu is None:
        on_gpu = kernel_trial.usable()
    # Layers of image models compute in the type to which the backbone casts pixels.
    of_pixels = getattr(model.backbone, "dtype", None)
    skeleton, variables = prepared.in_compute_type(skeleton, variables, of_pixels)
    return _for_gpu(skeleton, variables) if on_gpu else (skeleton, variables)


class KnownBias(nnx.Module):
    """A `RelativePositionBias` that has been looked up."""

    def __init__(self, bias: RelativePositionBias):
        self.value = nnx.Param(bias())

    def __call__(self) -> jax.Array:
        return self.value[...]


def _for_gpu(skeleton: Skeleton, variables: Variables) -> tuple[Skeleton, Variables]:
    model = merge(skeleton, variables)
    levels: Any = getattr(model.head, "levels", ())
    for index, level in enumerate(levels):
        if isinstance(level, HeadLevel) and level.both is not None:
            levels[index] = MergedLevel(level)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, GroupNorm | WindowAttention):
            module.in_kernel = True
    model.rule = replace(model.rule, in_kernel=True)
    found = split(model)
    for kind, make in MERGED.items():
        found = replaced(*found, kind, make)
    return prepared.output_major(*prepared.known_norms(*found))


def _merge_branches(level: Any) -> None:
    cls, reg = level.cls_conv[0], level.reg_conv[0]
    both = nnx.clone(cls)
    both.conv = prepared.joined(cls.conv, reg.conv)
    level.both = nnx.data(both)
    level.cls_conv, level.reg_conv = nnx.List(level.cls_conv[1:]), nnx.List(level.reg_conv[1:])
