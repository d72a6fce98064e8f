"""Maps from the pixels of a camera to the sensor that a model was trained for, and of boxes back.

A fit is an exact rational scale, the same for both axes, and a whole number of pixels added after it. Pixel
i covers [i, i + 1) in both systems, so boxes are scaled and shifted, and an event, which stands for the
centre of its pixel, goes from i to (i + 1/2) s - 1/2. Times, and the order of events at one time, stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from jaxdet.data.events.augment import CELL, PixelMap
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError
from jaxdet.structs import Boxes, ReadReport

FITS = {
    "none": "as it is",
    "crop": "a part of the model's size, not scaled",
    "pad": "in the middle, not scaled",
    "scale": "scaled with real coordinates",
    "bin": "scaled, coordinates rounded down to whole pixels",
}
OUTSIDE_SENSOR, OUTSIDE_REGION = "events outside the sensor", "events outside the region"


class View(NamedTuple):
    """The part of a recording that a model sees, and how."""

    fit: str | None = None  # of FITS; None: chosen by the sizes
    region: Sequence[int] | None = None  # x, y, width, height, camera's pixels; None: the whole sensor
    start_us: int | None = None  # camera's clock; None: from the first event on
    end_us: int | None = None  # events from here on are left out
    max_gap_s: float | None = None  # longer silences are skipped, and the memory reset; None: none is


@dataclass(frozen=True)
class Fit:
    """Placement of a camera's region on the model's sensor; made by `choose`."""

    name: str  # of FITS
    camera: tuple[int, int]  # height, width, pixels
    region: tuple[int, int, int, int]  # x, y, width, height, camera's pixels
    size: tuple[int, int]  # height, width of the model's sensor, pixels
    scale: Fraction
    shift: tuple[int, int]  # x, y of the region's corner on the model's sensor, pixels

    @property
    def is_identity(self) -> bool:
        """True if every pixel stays where it is."""
        return self.camera == self.size == (self.region[3], self.region[2]) and self.scale == 1

    @property
    def real(self) -> bool:
        """True if coordinates are not whole numbers."""
        return self.name == "scale" and self.scale != 1

    def pixels(self) -> PixelMap:
        """The map of events, tabulated for every column and row of the camera."""
        x, y, width, height = self.region
        column = _axis(self.camera[1], x, width, self.scale, self.shift[0], self.real)
        row = _axis(self.camera[0], y, height, self.scale, self.shift[1], self.real)
        cells_a_row = -(-self.size[1] // CELL)
        cell_x = (column[0] // CELL).astype(np.uint16)
        cell_y = (row[0] // CELL * cells_a_row).astype(np.uint16)
        return PixelMap(column[0], row[0], column[1], row[1], cell_x, cell_y)

    def kept(self, events: EventChunk, report: ReadReport) -> EventChunk:
        """The events of the region; the others are counted in `report`."""
        x, y, width, height = self.region
        in_region = (events.x >= x) & (events.x < x + width) & (events.y >= y) & (events.y < y + height)
        if in_region.all():
            return events
        on_sensor = (events.x >= 0) & (events.x < self.camera[1])
        on_sensor &= (events.y >= 0) & (events.y < self.camera[0])
        report.add(OUTSIDE_SENSOR, int((~on_sensor).sum()))
        report.add(OUTSIDE_REGION, int((on_sensor & ~in_region).sum()))
        return events.take(in_region)

    def to_model(self, xyxy: np.ndarray) -> np.ndarray:
        """Boxes [M, 4] of the camera's pixels in those of the model, float64."""
        corner, shift = np.array(self.region[:2] * 2), np.array(self.shift * 2)
        scaled = (np.asarray(xyxy, np.float64) - corner) * self.scale.numerator / self.scale.denominator
        return scaled + shift

    def to_camera(self, xyxy: np.ndarray) -> np.ndarray:
        """Boxes [M, 4] of the model's pixels in those of the camera, float64; the inverse of `to_model`."""
        corner, shift = np.array(self.region[:2] * 2), np.array(self.shift * 2)
        scaled = (np.asarray(xyxy, np.float64) - shift) * self.scale.denominator / self.scale.numerator
        return scaled + corner

    def boxes(self, found: Boxes) -> Boxes:
        """Detected boxes in the camera's pixels, float32 as detectors give them, clipped to the region.

        Those left empty are dropped, as detectors do at the edge of their sensor.
        """
        if self.is_identity:
            return found
        x, y, width, height = self.region
        xyxy = np.clip(self.to_camera(found.xyxy), (x, y, x, y), (x + width, y + height) * 2)
        boxes = replace(found, xyxy=xyxy.astype(np.float32), image_size=self.camera)
        return boxes.take((xyxy[:, 2:] > xyxy[:, :2]).all(1))

    def line(self) -> str:
        """Phrase for the log: both sizes, the region, the fit and its scale."""
        x, y, width, height = self.region
        part = "" if (height, width) == self.camera else f", of it {width}x{height} from ({x}, {y}),"
        scale = "" if self.scale == 1 else f" by {self.scale.numerator}/{self.scale.denominator}"
        return (
            f"{self.camera[1]}x{self.camera[0]} pixels{part} on the model's {self.size[1]}x{self.size[0]}: "
            f"--fit={self.name}, {FITS[self.name]}{scale}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Values to store beside the boxes, as JSON has them."""
        return {
            "name": self.name,
            "camera": list(self.camera),
            "region": list(self.region),
            "size": list(self.size),
            "scale": [self.scale.numerator, self.scale.denominator],
            "shift": list(self.shift),
        }


def choose(
    name: str | None,
    camera: tuple[int, int],
    size: tuple[int, int],
    region: Sequence[int] | None = None,
) -> Fit:
    """The fit `name` of a camera, or of its region (x, y, width, height), to a model's sensor.

    Sizes are (height, width). Without a name it is the one that keeps the whole region and its aspect: none
    for equal sizes, pad for one that fits inside, else bin. Raises InputError for a region that is not on the
    camera, and for sizes that the fit cannot take.
    """
    if name is not None and name not in FITS:
        raise InputError(f"fit {name!r}; expected one of {', '.join(FITS)}")
    whole = (0, 0, camera[1], camera[0])
    part = whole if region is None else _checked(region, camera)
    width, height = part[2:]
    fits = width <= size[1] and height <= size[0]
    if name is None:
        name = "none" if part == whole and camera == size else "pad" if fits else "bin"
    if name == "none" and (part != whole or camera != size):
        raise InputError(
            f"fit none: {width}x{height} pixels, the model sees {size[1]}x{size[0]}; "
            "give --fit=scale, bin, crop or pad"
        )
    if name == "crop" and region is None:
        width, height = min(width, size[1]), min(height, size[0])
        part = ((camera[1] - width) // 2, (camera[0] - height) // 2, width, height)
    elif name in ("crop", "pad") and not fits:
        raise InputError(
            f"fit {name}: {width}x{height} pixels, the model sees {size[1]}x{size[0]}; "
            "give --fit=scale or bin, or a smaller --region"
        )
    scale = Fraction(1)
    if name in ("scale", "bin"):
        scale = min(Fraction(size[1], width), Fraction(size[0], height))
    shift = int((size[1] - scale * width) // 2), int((size[0] - scale * height) // 2)
    return Fit(name, camera, part, size, scale, shift)


def _checked(region: Sequence[int], camera: tuple[int, int]) -> tuple[int, int, int, int]:
    values = tuple(int(value) for value in region)
    if len(values) == 4:
        x, y, width, height = values
        if min(x, y) >= 0 and min(width, height) > 0 and x + width <= camera[1] and y + height <= camera[0]:
            return values
    raise InputError(
        f"region {','.join(map(str, values))}: expected x,y,width,height "
        f"inside {camera[1]}x{camera[0]} pixels"
    )


def implied(size: tuple[int, int], view: View) -> tuple[int, int]:
    """Size of a camera whose file does not state it: the region's, else the model's."""
    if view.region is None or len(view.region) != 4:
        return size
    x, y, width, height = view.region
    return y + height, x + width


def parse_region(text: str) -> tuple[int, ...]:
    """Region "x,y,width,height"; InputError for another text."""
    words = text.split(",")
    if len(words) != 4 or not all(word.strip().isdigit() for word in words):
        raise InputError(f"--region={text[:40]}: expected x,y,width,height in pixels, such as 0,0,640,480")
    return tuple(int(word) for word in words)


def _axis(
    length: int, start: int, part: int, scale: Fraction, shift: int, real: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates float32 [length] on the model's sensor, 0 outside the region, and the mask of the region.

    A real coordinate left of the first pixel's centre, which only scaling down gives, is moved to it.
    """
    index = np.arange(length) - start
    kept = (index >= 0) & (index < part)
    # Twice the coordinate of the centre, times the denominator: whole numbers.
    centre = (2 * np.where(kept, index, 0) + 1) * scale.numerator
    twice = 2 * scale.denominator
    if real:
        at = np.maximum((centre - scale.denominator) / twice + shift, 0)
    else:
        at = centre // twice + shift
    return np.where(kept, at, 0).astype(np.float32), kept
