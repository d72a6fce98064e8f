"""The common part of the backbones of still images."""

from abc import abstractmethod
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Int

from jaxdet.models.detector import BackboneOutput
from jaxdet.structs import Images


class ImageBackbone(nnx.Module):
    """An image is a sequence of one step: one slot a lane, and nothing to carry."""

    dtype: Any = None

    def typed(self, pixels: Array) -> Array:
        """Pixels in the compute type; without one, integers become float32."""
        if self.dtype is None and jnp.issubdtype(pixels.dtype, jnp.floating):
            return pixels
        return pixels.astype(self.dtype or jnp.float32)

    def init_carry(self, batch_size: int) -> tuple[()]:
        """Nothing, whatever the number of lanes."""
        return ()

    @abstractmethod
    def features(self, pixels: Array, train: bool, mask: Bool[Array, " B"]) -> list[Array]:
        """Features of every level; only rows of the mask reach the batch statistics."""

    def __call__(
        self,
        inputs: Images,
        at_step: Int[Array, "B 1"],
        reset: Bool[Array, " B"],
        carry: tuple[()],
        train: bool = False,
    ) -> BackboneOutput:
        """Slots with `at_step` below 0 are padding."""
        valid = at_step >= 0
        return BackboneOutput(self.features(inputs.pixels, train, valid[:, 0]), valid, ())
