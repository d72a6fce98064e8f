"""Cross-stage-partial blocks in fewer calls, for devices on which calls cost more than arithmetic.

The first 1x1 convolutions of the two paths see the same input and become one, `both`. Norms after them
have to be folded.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from jaxdet.models.yolox import CSPLayer
from jaxdet.nn import prepared
from jaxdet.nn.csp import SPPCSP, BottleneckCSP, mish, spatial_pyramid


class MergedLayer(nnx.Module):
    """The outputs of a `CSPLayer` of YOLOX."""

    def __init__(self, layer: CSPLayer):
        self.both = nnx.clone(layer.conv1)
        self.both.conv = prepared.joined(layer.conv1.conv, layer.conv2.conv)
        self.m, self.conv3 = layer.m, layer.conv3

    def __call__(self, x: Array, train: bool = False, mask: Array | None = None):
        a, past = jnp.split(self.both(x), 2, -1)
        for block in self.m:
            a = block(a)
        return self.conv3(jnp.concatenate([a, past], -1))


class MergedBottlenecks(nnx.Module):
    """The outputs of a `BottleneckCSP`."""

    def __init__(self, block: BottleneckCSP):
        self.both = prepared.joined(block.cv1.conv, block.cv2)
        self.m, self.cv3, self.cv4, self.norm = block.m, block.cv3, block.cv4, block.norm

    def __call__(self, x: Array, train: bool = False, mask: Array | None = None):
        a, past = jnp.split(self.both(x), 2, -1)
        a = mish(a)
        for block in self.m:
            a = block(a)
        return self.cv4(mish(self.norm(jnp.concatenate([self.cv3(a), past], -1))))


class MergedPooling(nnx.Module):
    """The outputs of an `SPPCSP`."""

    def __init__(self, block: SPPCSP):
        self.both = prepared.joined(block.cv1.conv, block.cv2)
        self.cv3, self.cv4, self.cv5, self.cv6 = block.cv3, block.cv4, block.cv5, block.cv6
        self.cv7, self.norm = block.cv7, block.norm

    def __call__(self, x: Array, train: bool = False, mask: Array | None = None):
        a, past = jnp.split(self.both(x), 2, -1)
        a = self.cv4(self.cv3(mish(a)))
        a = self.cv6(self.cv5(spatial_pyramid(a)))
        return self.cv7(mish(self.norm(jnp.concatenate([a, past], -1))))


MERGED = {CSPLayer: MergedLayer, BottleneckCSP: MergedBottlenecks, SPPCSP: MergedPooling}
