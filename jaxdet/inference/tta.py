"""Test-time augmentation: views of an image, mirrored and scaled, whose candidates are selected together."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

from jaxdet.ops.select import Candidates
from jaxdet.structs import Detections, Images

# Scaled images are padded at the right and the bottom to a multiple of this, with the mean grey of ImageNet.
_MULTIPLE = 128
_GREY = 0.447 * 255


class TtaView(NamedTuple):
    """A view of an image for test-time augmentation: mirrored if `flip`, then scaled by `scale`."""

    scale: float = 1.0
    flip: bool = False


# The released recipe of Seq-YOLO, and that of Scaled-YOLOv4.
FLIP = (TtaView(), TtaView(flip=True))
SCALES = (TtaView(), TtaView(0.83, flip=True), TtaView(0.67))


def transform(pixels: Shaped[Array, "B H W C"], view: TtaView) -> Shaped[Array, "B h w C"]:
    """A view of images with values 0 to 255; scaled views are padded to multiples of 128 pixels."""
    if view.flip:
        pixels = pixels[:, :, ::-1]
    if view.scale == 1:
        return pixels
    b, height, width, c = pixels.shape
    if not jnp.issubdtype(pixels.dtype, jnp.floating):
        pixels = pixels.astype(jnp.float32)
    small = (b, int(height * view.scale), int(width * view.scale), c)
    pixels = jax.image.resize(pixels, small, "linear", antialias=False)
    low, right = (math.ceil(n * view.scale / _MULTIPLE) * _MULTIPLE for n in (height, width))
    pad = ((0, 0), (0, low - small[1]), (0, right - small[2]), (0, 0))
    return jnp.pad(pixels, pad, constant_values=_GREY)


def undo(boxes: Shaped[Array, "*S 4"], view: TtaView, width: int) -> Shaped[Array, "*S 4"]:
    """Map `xyxy` boxes from a view to the image, which is `width` pixels wide."""
    boxes = boxes / view.scale
    if view.flip:
        x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
        boxes = jnp.stack([width - x2, y1, width - x1, y2], -1)
    return boxes


def predict(
    detector: Any,
    inputs: Images,
    at_step: Int[Array, "B 1"],
    reset: Bool[Array, " B"],
    views: Sequence[TtaView],
) -> Detections:
    """Detections of B still images, selected among the candidates of all views."""
    found, valid = [], None
    for view in views:
        seen = inputs._replace(pixels=transform(inputs.pixels, view))
        candidates, valid, _ = detector.candidates(seen, at_step, reset, ())
        width = inputs.pixels.shape[2]
        found.append(candidates._replace(boxes=undo(candidates.boxes, view, width)))
    joined = Candidates(*(jnp.concatenate(parts, 1) for parts in zip(*found, strict=True)))
    return detector.select(joined, valid)
