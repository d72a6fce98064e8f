"""Network inputs from images: resize, letterbox, and map boxes back.

Arrays are uint8 [H, W, 3] in OpenCV's channel order (blue first); sizes are (height, width) in pixels.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

GREY = 114  # the padding of both released families
# Worker processes and threads share the cores already.
cv2.setNumThreads(1)


class Placement(NamedTuple):
    """Position of an image in the network input: pixel = original * gain + pad."""

    size: tuple[int, int]  # height, width of the original image
    gain: tuple[float, float]  # along x, along y
    pad: tuple[float, float]  # left, top
    # Boxes of released YOLOv4 end at the input's and the image's border, those of YOLOX do not.
    clip: bool = True


def resize_longest(image: np.ndarray, size: int, augment: bool = False) -> np.ndarray:
    """Scale so that the longer side has `size` pixels; see `scaled`."""
    return scaled(image, size / max(image.shape[:2]), augment)


def scaled(image: np.ndarray, gain: float, augment: bool = False) -> np.ndarray:
    """Scale by a factor, sides truncated to whole pixels.

    Parity: shrinking without augmentation averages areas, everything else is bilinear; small images are
    enlarged.
    """
    height, width = image.shape[:2]
    if gain == 1:
        return image
    method = cv2.INTER_AREA if gain < 1 and not augment else cv2.INTER_LINEAR
    return cv2.resize(image, _at_least_one(int(width * gain), int(height * gain)), interpolation=method)


def _at_least_one(width: int, height: int) -> tuple[int, int]:
    """Width and height; an image that is thinner than a pixel at network size keeps one."""
    return max(width, 1), max(height, 1)


def letterbox(
    image: np.ndarray,
    size: tuple[int, int],
    multiple: int | None = None,
    stretch: bool = False,
    enlarge: bool = True,
) -> tuple[np.ndarray, tuple[float, float], tuple[float, float]]:
    """Fit an image into `size` with its aspect, centred on grey.

    Returns the image, the gain (x, y), and the padding (left, top) before rounding.

    `multiple` pads only to the next multiple of that many pixels (released: 128); `stretch` ignores the
    aspect; without `enlarge` small images keep their size. Rounding is the released one (ScaledYOLOv4).
    """
    height, width = image.shape[:2]
    gain = float(min(size[0] / height, size[1] / width))
    if not enlarge:
        gain = min(gain, 1.0)
    gains = (gain, gain)
    fitted = _at_least_one(round(width * gain), round(height * gain))
    dx, dy = size[1] - fitted[0], size[0] - fitted[1]
    if multiple:
        dx, dy = dx % multiple, dy % multiple
    elif stretch:
        dx, dy = 0, 0
        fitted = (size[1], size[0])
        gains = (size[1] / width, size[0] / height)
    left, top = float(dx / 2), float(dy / 2)
    if (width, height) != fitted:
        image = cv2.resize(image, fitted, interpolation=cv2.INTER_LINEAR)
    border = (round(top - 0.1), round(top + 0.1), round(left - 0.1), round(left + 0.1))
    image = cv2.copyMakeBorder(image, *border, cv2.BORDER_CONSTANT, value=(GREY,) * 3)
    return image, gains, (left, top)


def fit_yolov4(
    image: np.ndarray, shape: tuple[int, int], size: int, augment: bool = False
) -> tuple[np.ndarray, Placement]:
    """Released YOLOv4 input: longest side to `size`, then letterboxed into the batch's `shape`."""
    height, width = image.shape[:2]
    resized = resize_longest(image, size, augment)
    boxed, gains, pad = letterbox(resized, shape, enlarge=augment)
    gain = (gains[0] * resized.shape[1] / width, gains[1] * resized.shape[0] / height)
    return boxed, Placement((height, width), gain, pad)


def fit_yolox(image: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, Placement]:
    """Released YOLOX input: scaled to fit, pasted at the top left of a grey canvas."""
    height, width = image.shape[:2]
    gain = min(shape[0] / height, shape[1] / width)
    fitted = _at_least_one(int(width * gain), int(height * gain))
    resized = cv2.resize(image, fitted, interpolation=cv2.INTER_LINEAR)
    canvas = np.full((*shape, 3), GREY, np.uint8)
    canvas[: resized.shape[0], : resized.shape[1]] = resized
    return canvas, Placement((height, width), (gain, gain), (0.0, 0.0), clip=False)


def to_original(boxes: np.ndarray, placement: Placement) -> np.ndarray:
    """Map boxes `xyxy` [..., 4] from network pixels to the original image, clipped to it if `placement.clip`.

    Parity: both axes are divided by the gain of the height, in the precision of the boxes.
    """
    height, width = placement.size
    moved = (boxes - np.asarray(placement.pad * 2, boxes.dtype)) / boxes.dtype.type(placement.gain[1])
    return moved.clip(0, np.asarray([width, height] * 2, boxes.dtype)) if placement.clip else moved


def to_network(boxes: np.ndarray, placement: Placement) -> np.ndarray:
    """Map boxes `xyxy` [..., 4] from the original image to network pixels."""
    return boxes * np.asarray(placement.gain * 2) + np.asarray(placement.pad * 2)


def rect_shapes(
    sizes: Sequence[tuple[int, int]], batch_size: int, size: int, stride: int, pad: float, sort: bool = True
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Order of the images by aspect, and the input shape of every batch of `batch_size` in that order.

    `sizes` are (height, width) of the images, `size` the longest side, `pad` in strides (released: 0.5 in
    tests, 0 in validation while training). Images of equal aspect keep the order given; without `sort` all
    do.
    """
    aspects = np.array([height / width for height, width in sizes], float)
    order = np.argsort(aspects, kind="stable") if sort else np.arange(len(aspects))
    shapes = []
    for start in range(0, len(order), batch_size):
        batch = aspects[order[start : start + batch_size]]
        low, high = batch.min(), batch.max()
        relative = (high, 1.0) if high < 1 else (1.0, 1 / low) if low > 1 else (1.0, 1.0)
        height, width = (math.ceil(side * size / stride + pad) * stride for side in relative)
        shapes.append((height, width))
    return order, shapes
