"""Training augmentation of YOLOv4: mosaic, mix-up, a random warp, colour, mirroring.

Random numbers are drawn first (`draw`), from one generator per sample, and applied afterwards (`apply`)
without any randomness. Images are uint8 [H, W, 3], blue first, or [H, W] where all of a sample are grey: the
result is the same and cheaper. Labels are float32 rows of a class and a box; `fractions` are centre and size
relative to the image, `pixels` are xyxy.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from jaxdet.data.images.letterbox import GREY, letterbox, scaled

_SHORTEST = 2  # pixels; boxes that keep less than this are dropped,
_LEAST_AREA = 0.2  # or less than this part of their area,
_LONGEST_ASPECT = 20  # or are longer than this many times their width

# Image and labels (class, fractions) of an index.
Load = Callable[[int], tuple[np.ndarray, np.ndarray]]
Shape = tuple[int, int]  # height, width


class Settings(NamedTuple):
    """Ranges and probabilities of the draws; the default is the released recipe "scratch"."""

    mosaic: bool = True  # else the image alone, on grey
    hsv: tuple[float, float, float] = (0.015, 0.7, 0.4)  # relative change of hue, saturation, value
    degrees: float = 0.0
    translate: float = 0.5  # fraction of the output
    scale: float = 0.5  # 1 - scale to 1 + scale
    shear: float = 0.0  # degrees
    perspective: float = 0.0
    flip_up: float = 0.0  # probability
    flip_left: float = 0.5
    mixup: float = 0.0


FINETUNE = Settings(scale=0.8, mixup=0.2)
PLAIN = Settings(mosaic=False, translate=0.0, scale=0.0)


class Warp(NamedTuple):
    """Warp about the middle of the input, then moved so that the middle lies at `shift` of the output."""

    perspective: tuple[float, float]
    angle: float  # degrees
    scale: float
    shear: tuple[float, float]  # degrees
    shift: tuple[float, float]  # fractions of width and height; (.5, .5) is the middle


class Mosaic(NamedTuple):
    """One image, or four (top left, top right, bottom left, bottom right), and their common warp."""

    images: tuple[int, ...]
    warp: Warp


class Draw(NamedTuple):
    """All random numbers of one sample."""

    mosaic: Mosaic
    mix: tuple[Mosaic, float] | None  # a second mosaic, and the weight of the first
    gains: tuple[float, float, float]  # of hue, saturation, value
    flip_up: bool
    flip_left: bool


def draw(rng: np.random.Generator, index: int, num_images: int, settings: Settings) -> Draw:
    """Draw a sample around image `index` of `num_images`."""
    mosaic = _draw_mosaic(rng, index, num_images, settings)
    mix = None
    if rng.random() < settings.mixup:
        other = _draw_mosaic(rng, int(rng.integers(num_images)), num_images, settings)
        mix = other, float(rng.beta(8, 8))
    h, s, v = (float(gain) for gain in 1 + rng.uniform(-1, 1, 3) * settings.hsv)
    up, left = rng.random() < settings.flip_up, rng.random() < settings.flip_left
    return Draw(mosaic, mix, (h, s, v), bool(up), bool(left))


def _draw_mosaic(rng: np.random.Generator, index: int, num_images: int, settings: Settings) -> Mosaic:
    others = [int(i) for i in rng.integers(num_images, size=3)] if settings.mosaic else []

    def around(middle: float, reach: float) -> float:
        return float(rng.uniform(middle - reach, middle + reach))

    warp = Warp(
        (around(0, settings.perspective), around(0, settings.perspective)),
        around(0, settings.degrees),
        around(1, settings.scale),
        (around(0, settings.shear), around(0, settings.shear)),
        (around(0.5, settings.translate), around(0.5, settings.translate)),
    )
    return Mosaic((index, *others), warp)


def apply(drawn: Draw, shape: Shape, load: Load) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 [H, W] or [H, W, 3] of a `shape`, and labels float32 [M, 5] (class, fractions).

    The released shapes are squares.
    """
    image, labels = _mosaic(drawn.mosaic, shape, load)
    if drawn.mix is not None:
        mosaic, share = drawn.mix
        other, more = _mosaic(mosaic, shape, load)
        image, other = _alike(image, other)
        image = (image * share + other * (1 - share)).astype(np.uint8)
        labels = np.concatenate([labels, more])
    image = recolour(image, drawn.gains)
    sides = np.array(shape[::-1], labels.dtype)
    low, high = labels[:, 1:3], labels[:, 3:]
    fractions = np.concatenate([labels[:, :1], (low + high) / 2 / sides, (high - low) / sides], 1)
    if drawn.flip_up:
        image, fractions[:, 2] = image[::-1], 1 - fractions[:, 2]
    if drawn.flip_left:
        image, fractions[:, 1] = image[:, ::-1], 1 - fractions[:, 1]
    return np.ascontiguousarray(image), fractions


def _mosaic(mosaic: Mosaic, shape: Shape, load: Load) -> tuple[np.ndarray, np.ndarray]:
    """Mosaic of four images that meet in the middle of a canvas, or of one image; warped to `shape`.

    Returns the image and labels float [M, 5] (class, pixels).
    """
    if len(mosaic.images) == 1:
        return _alone(mosaic, shape, load)
    tiles, labels = zip(*(_tile(load, index, shape) for index in mosaic.images), strict=True)
    tiles = _alike(*tiles)
    whole = 2 * shape[0], 2 * shape[1]
    canvas = np.full((*whole, *tiles[0].shape[2:]), GREY, np.uint8)
    placed = []
    for corner, (tile, rows) in enumerate(zip(tiles, labels, strict=True)):
        height, width = tile.shape[:2]
        left = shape[1] if corner % 2 else shape[1] - width
        top = shape[0] if corner // 2 else shape[0] - height
        canvas[top : top + height, left : left + width] = tile
        placed.append(_moved(rows, (height, width), (left, top), whole))
    return warp(canvas, np.concatenate(placed), mosaic.warp, shape)


def _alone(mosaic: Mosaic, shape: Shape, load: Load) -> tuple[np.ndarray, np.ndarray]:
    tile, rows = _tile(load, mosaic.images[0], shape)
    boxed, _, pad = letterbox(tile, shape, enlarge=False)
    corner = round(pad[0] - 0.1), round(pad[1] - 0.1)
    return warp(boxed, _moved(rows, tile.shape[:2], corner, shape), mosaic.warp, shape)


def _moved(rows: np.ndarray, size: Shape, corner: tuple[int, int], limits: Shape) -> np.ndarray:
    """Convert labels (class, fractions of an image of `size`) to (class, pixels) of a canvas.

    `corner` (left, top) is the image's place on the canvas, to whose `limits` boxes are clipped.
    """
    (height, width), (left, top) = size, corner
    x, y, w, h = rows[:, 1:].T
    corners = [
        width * (x - w / 2) + left,
        height * (y - h / 2) + top,
        width * (x + w / 2) + left,
        height * (y + h / 2) + top,
    ]
    across, down = corners[::2], corners[1::2]
    (x1, x2), (y1, y2) = (c.clip(0, limits[1]) for c in across), (c.clip(0, limits[0]) for c in down)
    return np.stack([rows[:, 0], x1, y1, x2, y2], 1)


def _tile(load: Load, index: int, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    image, labels = load(index)
    return scaled(
        image, min(s / n for s, n in zip(shape, image.shape[:2], strict=True)), augment=True
    ), labels


def _alike(*images: np.ndarray) -> tuple[np.ndarray, ...]:
    """Give every image three channels, unless all are grey."""
    if all(image.ndim == 2 for image in images):
        return images
    return tuple(cv2.cvtColor(i, cv2.COLOR_GRAY2BGR) if i.ndim == 2 else i for i in images)


def matrix(drawn: Warp, source: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """Matrix [3, 3] of a warp on (x, y, 1), from size `source` to size `target` (height, width)."""
    centred, tilted, turned, sheared, moved = (np.eye(3) for _ in range(5))
    centred[0, 2], centred[1, 2] = -source[1] / 2, -source[0] / 2
    tilted[2, :2] = drawn.perspective
    turned[:2] = cv2.getRotationMatrix2D((0, 0), drawn.angle, drawn.scale)
    sheared[0, 1], sheared[1, 0] = (math.tan(math.radians(angle)) for angle in drawn.shear)
    moved[0, 2], moved[1, 2] = drawn.shift[0] * target[1], drawn.shift[1] * target[0]
    return moved @ sheared @ turned @ tilted @ centred


def warp(
    image: np.ndarray, labels: np.ndarray, drawn: Warp, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Warp an image into one of `size` (height, width), and labels [M, 5] (class, pixels).

    A box becomes the bounding box of its warped corners, clipped to the image. It is dropped unless both
    sides exceed 2 pixels, its area exceeds a fifth of the area before clipping, and its aspect is below 20.
    """
    height, width = size
    m = matrix(drawn, image.shape[:2], size)
    border = (GREY, GREY, GREY)
    if any(drawn.perspective):
        image = cv2.warpPerspective(image, m, (width, height), borderValue=border)
    elif image.shape[:2] != size or not np.array_equal(m, np.eye(3)):
        image = cv2.warpAffine(image, m[:2], (width, height), borderValue=border)
    if not len(labels):
        return image, labels
    corners = np.ones((len(labels), 4, 3))
    corners[..., :2] = labels[:, [1, 2, 3, 4, 1, 4, 3, 2]].reshape(-1, 4, 2)
    corners = corners @ m.T
    corners = corners[..., :2] / corners[..., 2:] if any(drawn.perspective) else corners[..., :2]
    limits = np.array([width, height])
    boxes = np.concatenate([corners.min(1).clip(0, limits), corners.max(1).clip(0, limits)], 1)
    before = (labels[:, 3:] - labels[:, 1:3]) * drawn.scale
    kept = _kept(before, boxes[:, 2:] - boxes[:, :2])
    labels = np.concatenate([labels[:, :1], boxes], 1).astype(labels.dtype)
    return image, labels[kept]


def _kept(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mask bool [M] of the boxes to keep, from their sizes [M, 2] before and after the warp."""
    w, h = after.T
    aspect = np.maximum(w / (h + 1e-16), h / (w + 1e-16))
    area = after.prod(1) / (before.prod(1) + 1e-16)
    return (after > _SHORTEST).all(1) & (area > _LEAST_AREA) & (aspect < _LONGEST_ASPECT)


def recolour(image: np.ndarray, gains: tuple[float, float, float]) -> np.ndarray:
    """Scale hue, saturation and value of a uint8 image; a grey image [H, W] has only a value."""
    levels = np.arange(256)
    value = (levels * gains[2]).clip(0, 255).astype(np.uint8)
    if image.ndim == 2:
        return cv2.LUT(image, value)
    hue = ((levels * gains[0]) % 180).astype(np.uint8)
    saturation = (levels * gains[1]).clip(0, 255).astype(np.uint8)
    tables = np.stack([hue, saturation, value], 1)[None]
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), tables), cv2.COLOR_HSV2BGR)
