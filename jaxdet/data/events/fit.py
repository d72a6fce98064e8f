"""Maps from the pixels of a camera to the sensor that a model was trained for, and of boxes back.

A fit is an exact rational scale, the same for both axes, and a whole number of pixels added after it. Pixel
i covers [i, i + 1) in both systems, so boxes are scaled and shifted, and an event, which stands for the
centre of its pixel, goes from i to (i + 1/2) s - 1/2. Times, and the order of events at one time, stay. The
picture of a camera that hangs mirrored or turned is put upright before it is scaled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np

from jaxdet.data.events.augment import CELL, PixelMap
from jaxdet.data.events.filters import Filters
from jaxdet.data.events.mounting import Mounting
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
    max_gap_s: float | None = None  # longer silences are skipped, and the memory reset; None: all are kept
    sensor: tuple[int, int] | None = None  # height, width of the camera; None: as the file states it
    mounting: Mounting = Mounting()
    filters: Filters = Filters()

    def live(self) -> "View":
        """The same without what needs the whole of a recording."""
        filters = self.filters._replace(hot_pixels=()) if self.filters.must_look else self.filters
        return self._replace(start_us=None, end_us=None, filters=filters)


class PlaceOptions(TypedDict, total=False):
    """Keywords of a view of any events, also of live ones."""

    fit: str | None  # of FITS; by default chosen by the sizes
    region: Sequence[int] | None  # x, y, width, height, camera's pixels
    flip: str | None  # of `mounting.FLIPS`
    rotate: int  # of `mounting.TURNS`
    hot_pixels: str | Sequence[Sequence[int]]  # (x, y), camera's pixels; "find" for recordings
    activity_us: int | None  # an event without another around it for so long is left out


class ViewOptions(PlaceOptions, total=False):
    """Keywords of a view of a recording."""

    start_us: int | None  # camera's clock
    end_us: int | None
    max_gap_s: float | None


def view(sensor: tuple[int, int] | None = None, **options: Unpack[ViewOptions]) -> View:
    """The view of these options; `sensor` (height, width) overrules what a file states of its camera."""
    given: dict[str, Any] = {**options}
    mounting = Mounting(given.pop("flip", None), given.pop("rotate", 0)).check()
    filters = Filters(given.pop("hot_pixels", ()), given.pop("activity_us", None)).check()
    return View(sensor=sensor, mounting=mounting, filters=filters, **given)


@dataclass(frozen=True)
class Fit:
    """Placement of a camera's region on the model's sensor; made by `choose`."""

    name: str  # of FITS
    camera: tuple[int, int]  # height, width, pixels
    region: tuple[int, int, int, int]  # x, y, width, height, camera's pixels
    size: tuple[int, int]  # height, width of the model's sensor, pixels
    scale: Fraction
    shift: tuple[int, int]  # x, y of the region's corner on the model's sensor, pixels
    mounting: Mounting

    @property
    def is_identity(self) -> bool:
        """True if every pixel stays where it is."""
        same_size = self.camera == self.size == (self.region[3], self.region[2])
        return same_size and self.scale == 1 and self.mounting == Mounting()

    @property
    def real(self) -> bool:
        """True if coordinates are not whole numbers."""
        return self.name == "scale" and self.scale != 1

    def pixels(self) -> PixelMap:
        """The map of events that `upright` gave, tabulated for every upright column and row."""
        (x, y, width, height), upright = self._upright_region, self.mounting.size(self.camera)
        column = _axis(upright[1], x, width, self.scale, self.shift[0], self.real)
        row = _axis(upright[0], y, height, self.scale, self.shift[1], self.real)
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

    def upright(self, events: EventChunk) -> EventChunk:
        """Events in the camera's pixels as they would be if it hung upright."""
        return self.mounting.events(events, self.camera)

    @property
    def _upright_region(self) -> tuple[int, int, int, int]:
        return _upright(self.region, self.camera, self.mounting)

    def to_model(self, xyxy: np.ndarray) -> np.ndarray:
        """Boxes [M, 4] of the camera's pixels in those of the model, float64."""
        xyxy = self.mounting.boxes(np.asarray(xyxy, np.float64), self.camera)
        corner, shift = np.array(self._upright_region[:2] * 2), np.array(self.shift * 2)
        return (xyxy - corner) * self.scale.numerator / self.scale.denominator + shift

    def to_camera(self, xyxy: np.ndarray) -> np.ndarray:
        """Boxes [M, 4] of the model's pixels in those of the camera, float64; the inverse of `to_model`."""
        corner, shift = np.array(self._upright_region[:2] * 2), np.array(self.shift * 2)
        scaled = (np.asarray(xyxy, np.float64) - shift) * self.scale.denominator / self.scale.numerator
        return self.mounting.inverse().boxes(scaled + corner, self.mounting.size(self.camera))

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
        turned = f", {self.mounting.phrase()}," if self.mounting != Mounting() else ""
        return (
            f"{self.camera[1]}x{self.camera[0]} pixels{part}{turned} "
            f"on the model's {self.size[1]}x{self.size[0]}: --fit={self.name}, {FITS[self.name]}{scale}"
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
            "flip": self.mounting.flip,
            "rotate": self.mounting.rotate,
        }


def choose(
    name: str | None,
    camera: tuple[int, int],
    size: tuple[int, int],
    region: Sequence[int] | None = None,
    mounting: Mounting = Mounting(),  # noqa: B008   (immutable)
) -> Fit:
    """The fit `name` of a camera, or of its region (x, y, width, height), to a model's sensor.

    Sizes are (height, width), the camera's and the region as they are in its file; `mounting` puts it
    upright. Without a name it is the one that keeps the whole region and its aspect: none for equal sizes,
    pad for one that fits inside, else bin. Raises InputError for a region that is not on the camera, and for
    sizes that the fit cannot take.
    """
    if name is not None and name not in FITS:
        raise InputError(f"fit {name!r}; expected one of {', '.join(FITS)}")
    whole = (0, 0, camera[1], camera[0])
    part = whole if region is None else _checked(region, camera)
    width, height = _upright(part, camera, mounting.check())[2:]
    fits = width <= size[1] and height <= size[0]
    same = part == whole and (height, width) == size
    if name is None:
        name = "none" if same else "pad" if fits else "bin"
    if name == "none" and not same:
        raise InputError(
            f"fit none: {width}x{height} pixels, the model sees {size[1]}x{size[0]}; "
            "give --fit=scale, bin, crop or pad"
        )
    if name == "crop" and region is None:
        width, height = min(width, size[1]), min(height, size[0])
        rows, columns = mounting.size((height, width))
        part = ((camera[1] - columns) // 2, (camera[0] - rows) // 2, columns, rows)
    elif name in ("crop", "pad") and not fits:
        raise InputError(
            f"fit {name}: {width}x{height} pixels, the model sees {size[1]}x{size[0]}; "
            "give --fit=scale or bin, or a smaller --region"
        )
    scale = Fraction(1)
    if name in ("scale", "bin"):
        scale = min(Fraction(size[1], width), Fraction(size[0], height))
    shift = int((size[1] - scale * width) // 2), int((size[0] - scale * height) // 2)
    return Fit(name, camera, part, size, scale, shift, mounting)


def _upright(
    region: tuple[int, int, int, int], camera: tuple[int, int], mounting: Mounting
) -> tuple[int, int, int, int]:
    """A region (x, y, width, height) of the camera's pixels in upright pixels."""
    x, y, width, height = region
    x0, y0, x1, y1 = mounting.boxes(np.array([[x, y, x + width, y + height]]), camera)[0].tolist()
    return x0, y0, x1 - x0, y1 - y0


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
        return view.mounting.size(size)
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
