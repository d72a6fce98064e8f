"""Pictures of the simulated world in log intensity: a street, cars, pedestrians, cyclists.

Only exact arithmetic is used here, in `scene` and in `sensor` (+ - * / floor and integer or uniform random
draws; no sin, exp, log, no reductions of floats), because it rounds alike on every processor: one seed gives
the same bytes everywhere.
"""

from typing import NamedTuple

import numpy as np

HORIZON = 96  # row of the street's far end in the unzoomed world


class Sprite(NamedTuple):
    """An object's pictures with a transparent border of one pixel."""

    layers: np.ndarray  # float32 [F, 2, h + 2, w + 2]   opacity * log intensity, opacity; F poses
    width: int
    height: int


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def street(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Log intensity of the background, float32 [height, width]: houses above the horizon, road below."""
    image = np.zeros((height, width))
    for cell, amplitude in ((40, 0.16), (12, 0.10), (4, 0.10)):
        image += amplitude * _value_noise(rng, height, width, cell)
    left = 0
    while left < width:
        house = int(rng.integers(36, 90))
        top = int(rng.integers(0, HORIZON - 20))
        _house(rng, image[top : height // 2, left : left + house])
        left += house + int(rng.integers(0, 16))
    for row in (height // 2 + 30, height // 2 + 78):
        for column in range(int(rng.integers(0, 40)), width, 44):
            image[row : row + 2, column : column + 20] += 0.35
    return image.astype(np.float32)


def _value_noise(rng, height, width, cell):
    """Noise in [-1, 1], random at the corners of cells of `cell` pixels and linear between them."""
    corners = 2 * rng.random((height // cell + 2, width // cell + 2)) - 1
    rows, columns = np.arange(height), np.arange(width)
    y, x = rows // cell, columns // cell
    fy, fx = ((rows % cell) / cell)[:, None], ((columns % cell) / cell)[None, :]
    upper = corners[y][:, x] * (1 - fx) + corners[y][:, x + 1] * fx
    lower = corners[y + 1][:, x] * (1 - fx) + corners[y + 1][:, x + 1] * fx
    return upper * (1 - fy) + lower * fy


def _house(rng, facade):
    facade += uniform(rng, -0.25, 0.25)
    window = uniform(rng, 0.12, 0.3) * (1 if rng.random() < 0.5 else -1)
    for row in range(6, facade.shape[0] - 8, 14):
        for column in range(5, facade.shape[1] - 6, 12):
            facade[row : row + 7, column : column + 6] += window


class _Canvas:
    """Shapes painted at twice the size, then averaged: edges are a pixel soft."""

    def __init__(self, width, height):
        self.width, self.height = width, height
        self.value = np.zeros((2 * height, 2 * width))
        self.opacity = np.zeros((2 * height, 2 * width))
        # Pixel centres in units of the height, x counted from the middle.
        self.y = (np.arange(2 * height)[:, None] + 0.5) / (2 * height)
        self.x = (np.arange(2 * width)[None, :] + 0.5 - width) / (2 * height)

    def paint(self, mask, level):
        self.value = np.where(mask, level, self.value)
        self.opacity = np.where(mask, 1.0, self.opacity)

    def disc(self, x, y, radius, level):
        self.paint((self.x - x) * (self.x - x) + (self.y - y) * (self.y - y) < radius * radius, level)

    def limb(self, x_top, y_top, x_foot, y_foot, thickness, level):
        """A slanted bar."""
        along = (self.y - y_top) / (y_foot - y_top)
        centre = x_top + (x_foot - x_top) * along
        self.paint((along >= 0) & (along <= 1) & (np.abs(self.x - centre) < thickness / 2), level)

    def layers(self):
        """float32 [2, height + 2, width + 2]: premultiplied value and opacity."""
        planes = []
        for plane in (self.value * self.opacity, self.opacity):
            mean = (plane[0::2, 0::2] + plane[1::2, 0::2] + plane[0::2, 1::2] + plane[1::2, 1::2]) / 4
            planes.append(np.pad(mean, 1))
        return np.stack(planes).astype(np.float32)


def car(rng: np.random.Generator, width: int, facing: int) -> Sprite:
    """A car seen from the side, `facing` +1 (right) or -1: long low body, cabin with windows, two wheels."""
    height = int(width * uniform(rng, 0.40, 0.46))
    half = width / (2 * height)
    paint = uniform(rng, 0.75, 1.15) * (1 if rng.random() < 0.5 else -1)
    glass = -paint * 0.6
    rear, front = uniform(rng, 0.55, 0.95) * half, uniform(rng, 0.35, 0.6) * half
    canvas = _Canvas(width, height)
    x = canvas.x * facing
    slope = 0.35 * np.maximum(0.45 - canvas.y, 0) * half
    canvas.paint((canvas.y > 0.0) & (canvas.y < 0.45) & (x > -rear + slope) & (x < front - 2 * slope), paint)
    inside = (canvas.y > 0.09) & (canvas.y < 0.38)
    canvas.paint(inside & (x > -rear + 0.14 + slope) & (x < front - 0.16 - 2 * slope), glass)
    canvas.paint(inside & (np.abs(x - (front - rear) / 2) < 0.05), paint)
    corner = np.maximum(np.abs(canvas.x) - half + 0.1, 0) + np.maximum(np.abs(canvas.y - 0.62) - 0.12, 0)
    canvas.paint((canvas.y > 0.38) & (canvas.y < 0.86) & (corner < 0.17), paint)
    canvas.paint((canvas.y > 0.5) & (canvas.y < 0.62) & (x > half - 0.12), 0.9)
    for wheel in (-0.6 * half, 0.6 * half):
        canvas.disc(wheel, 0.79, 0.21, -1.1)
        canvas.disc(wheel, 0.79, 0.09, 0.5)
    return Sprite(canvas.layers()[None], width, height)


POSES = 16  # of one stride


def pedestrian(rng: np.random.Generator, height: int, facing: int) -> Sprite:
    """A person walking, from the side: head, trunk, swinging arms and legs; one layer per phase of stride."""
    width = int(height * 0.42)
    coat = uniform(rng, 0.7, 1.1) * (1 if rng.random() < 0.5 else -1)
    trousers = uniform(rng, 0.7, 1.1) * (1 if rng.random() < 0.6 else -1)
    build = uniform(rng, 0.9, 1.15)
    poses = []
    for pose in range(POSES):
        swing = abs(4 * pose / POSES - 2) - 1  # triangle wave, +1 .. -1 .. +1
        canvas = _Canvas(width, height)
        for side in (-1, 1):
            canvas.limb(0, 0.48, 0.15 * side * swing, 1.0, 0.085 * build, trousers - 0.15 * side)
        canvas.limb(0, 0.2, -0.13 * swing * facing, 0.52, 0.06, coat * 0.5)
        canvas.paint((canvas.y > 0.17) & (canvas.y < 0.54) & (np.abs(canvas.x) < 0.105 * build), coat)
        canvas.limb(0, 0.22, 0.13 * swing * facing, 0.52, 0.05, coat * 0.4)
        canvas.disc(0.01 * facing, 0.085, 0.082, 0.75)
        poses.append(canvas.layers())
    return Sprite(np.stack(poses), width, height)


def cyclist(rng: np.random.Generator, height: int, facing: int) -> Sprite:
    """A person on a bicycle, from the side: two wheels, a frame, a bent trunk and a leg that pedals."""
    width = int(height * 0.9)
    coat = uniform(rng, 0.7, 1.1) * (1 if rng.random() < 0.5 else -1)
    bicycle = uniform(rng, 0.8, 1.1) * (1 if rng.random() < 0.5 else -1)
    poses = []
    for pose in range(POSES):
        swing = abs(4 * pose / POSES - 2) - 1
        canvas = _Canvas(width, height)
        for wheel in (-0.26, 0.26):
            canvas.disc(wheel, 0.81, 0.19, bicycle)
            canvas.disc(wheel, 0.81, 0.13, -0.4 * bicycle)
        canvas.limb(-0.1 * facing, 0.5, -0.26 * facing, 0.81, 0.04, bicycle)
        canvas.limb(0.2 * facing, 0.48, 0.26 * facing, 0.81, 0.04, bicycle)
        canvas.limb(-0.08 * facing, 0.52, (0.02 + 0.09 * swing) * facing, 0.86, 0.08, -coat)
        canvas.limb(0.08 * facing, 0.19, -0.08 * facing, 0.56, 0.15, coat)
        canvas.limb(0.08 * facing, 0.24, 0.2 * facing, 0.5, 0.05, coat * 0.5)
        canvas.disc(0.12 * facing, 0.1, 0.08, 0.75)
        poses.append(canvas.layers())
    return Sprite(np.stack(poses), width, height)
