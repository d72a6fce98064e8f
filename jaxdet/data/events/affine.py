"""Affine augmentation of event windows: one random map for all events and boxes of a window.

Rotation, shear, scale and translation about the centre of the sensor, before the resize of `augment`. Events
keep the real-valued coordinates of the map; a box becomes the hull of its mapped corners.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxdet.data.events.augment import CELL, SensorView
from jaxdet.errors import InputError


class Ranges(NamedTuple):
    """Largest random change of each kind; all at their defaults: none."""

    rotation: float = 0.0  # degrees, to either side
    translation: float = 0.0  # of the sensor's width and height, to either side
    scale: float = 1.0  # factor; the logarithm is uniform from 1 / scale to scale
    shear: float = 0.0  # degrees, of columns against rows, to either side

    @classmethod
    def of(cls, block: Any) -> "Ranges":
        """The ranges of a config's block `data.affine`; InputError for values that are no range."""
        ranges = cls(*(float(getattr(block, name)) for name in cls._fields))
        limits = {"rotation": (0, 180), "translation": (0, 1), "scale": (1, 10), "shear": (0, 60)}
        for name, (low, high) in limits.items():
            if not low <= getattr(ranges, name) <= high:
                raise InputError(f"data.affine.{name} is {getattr(ranges, name)}, expected {low} to {high}")
        return ranges


class AffineMap(NamedTuple):
    """An affine map of a sensor's pixels to themselves."""

    matrix: np.ndarray  # float64 [2, 3]   of (x, y, 1)
    height: int  # pixels
    width: int


def draw(rng: np.random.Generator, ranges: Ranges, height: int, width: int) -> AffineMap | None:
    """A random map; None where all ranges are none."""
    if ranges == Ranges():
        return None
    rotation, shear = np.deg2rad(np.array([ranges.rotation, ranges.shear]) * rng.uniform(-1, 1, 2))
    scale = ranges.scale ** rng.uniform(-1, 1)
    shift = ranges.translation * rng.uniform(-1, 1, 2) * (width, height)
    turned = np.array([[np.cos(rotation), -np.sin(rotation)], [np.sin(rotation), np.cos(rotation)]])
    linear = scale * turned @ np.array([[1, np.tan(shear)], [0, 1]])
    centre = np.array([width - 1, height - 1]) / 2
    return AffineMap(np.column_stack([linear, centre - linear @ centre + shift]), height, width)


def apply(warp: AffineMap, points: np.ndarray) -> np.ndarray:
    """The points (x, y) [..., 2], mapped, float64."""
    return points @ warp.matrix[:, :2].T + warp.matrix[:, 2]


def map_boxes(warp: AffineMap, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hulls of the mapped boxes [M, 4] (xyxy), clipped to the sensor, [N, 4], and the mask [M] of boxes kept.

    As with the crop of `augment`, a box is kept if the centre of its hull lies on the sensor.
    """
    mapped = apply(warp, boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]])  # [M, corners, 2]
    hull = np.concatenate([mapped.min(1), mapped.max(1)], 1)
    centre = (hull[:, :2] + hull[:, 2:]) / 2
    sides = np.array([warp.width, warp.height] * 2)
    keep = np.all((centre >= 0) & (centre < sides[:2]), axis=1)
    return np.clip(hull[keep], 0, sides), keep


class AffinePixels(NamedTuple):
    """An affine map and then a view, tabulated per pixel; the methods are those of `augment.PixelMap`."""

    xy: np.ndarray  # float32 [H, W, 2]   column and row of the input
    inside: np.ndarray  # bool [H, W]   in the crop
    cell: np.ndarray  # uint16 [H, W]   number of the 4 x 4 window

    def kept(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Mask [N] of the events inside the crop."""
        return self.inside[y, x]

    def cells(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Window of each event, [N]."""
        return self.cell[y, x]

    def mapped(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Input column and row of each event, float32 [N, 2]."""
        return self.xy[y, x]


def pixel_map(warp: AffineMap, view: SensorView) -> AffinePixels:
    """Tabulate an affine map that is followed by a view."""
    pixels = np.stack(np.meshgrid(np.arange(view.width), np.arange(view.height)), -1)
    xy = apply(warp, pixels) * (view.scale_x, view.scale_y) + (view.shift_x, view.shift_y)
    xy = xy.astype(np.float32)
    inside = np.all((xy >= 0) & (xy < (view.width, view.height)), axis=-1)
    if view.flip:
        xy[..., 0] = np.float32(view.width - 1) - xy[..., 0]
    column, row = (np.trunc(xy[..., i] / CELL) for i in (0, 1))
    cell = np.where(inside, row * -(-view.width // CELL) + column, 0)
    return AffinePixels(xy, inside, cell.astype(np.uint16))
