"""Training augmentation of event windows: resize, pad, crop and mirror, with real-valued coordinates.

All randomness is in `Draws`, five numbers made by `draw`; applying them is a pure function. Source: released
HMNet (float32 arithmetic and order of operations included, so that augmented coordinates are equal to the
last bit).
"""

from typing import NamedTuple

import numpy as np

MIN_SCALE = 0.5
NUM_SCALES = 16  # 0.5, 0.6, ... 2.0
CELL = 4  # pixels; events are grouped by 4 x 4 windows, one latent token each


class Draws(NamedTuple):
    """Random parameters of one training window, in the order in which they are drawn."""

    start_ms: int  # first millisecond of the window
    scale: int  # 0..15, scale 0.5 + scale / 10
    crop_top: int  # pixels
    crop_left: int  # pixels
    flip: bool


class SensorView(NamedTuple):
    """Map from the sensor's pixels to the network's input: scale, then shift, then mirror, then crop."""

    height: int  # input size, pixels
    width: int
    scale_y: float
    scale_x: float
    shift_y: int  # padding minus crop offset, pixels
    shift_x: int
    flip: bool


def identity(height: int, width: int) -> SensorView:
    """The view that maps every pixel to itself."""
    return SensorView(height, width, 1.0, 1.0, 0, 0, False)


def draw(
    rng: np.random.Generator, starts: tuple[int, int], height: int, width: int, augment: bool = True
) -> Draws:
    """Draw a window; `starts` is the inclusive range of the first millisecond.

    A range of one value still draws, so the order of draws never changes.
    """
    start = int(rng.integers(starts[0], starts[1], endpoint=True))
    if not augment:
        return Draws(start, 0, 0, 0, False)
    scale = int(rng.integers(0, NUM_SCALES - 1, endpoint=True))
    scaled_h, scaled_w = scaled_size(scale, height, width)
    top = int(rng.integers(0, max(scaled_h, height) - height, endpoint=True))
    left = int(rng.integers(0, max(scaled_w, width) - width, endpoint=True))
    return Draws(start, scale, top, left, bool(rng.random() <= 0.5))


def scaled_size(scale: int, height: int, width: int) -> tuple[int, int]:
    """Height and width after resize step `scale`, rounded half to even."""
    factor = MIN_SCALE + scale / 10
    return round(height * factor), round(width * factor)


def view(draws: Draws, height: int, width: int) -> SensorView:
    """The view of these draws: a smaller image is centred, a larger one cropped."""
    scaled_h, scaled_w = scaled_size(draws.scale, height, width)
    return SensorView(
        height,
        width,
        scaled_h / height,
        scaled_w / width,
        max(int((height - scaled_h) / 2), 0) - draws.crop_top,
        max(int((width - scaled_w) / 2), 0) - draws.crop_left,
        draws.flip,
    )


class PixelMap(NamedTuple):
    """A view tabulated per sensor column and row: an event is mapped by two look-ups."""

    x: np.ndarray  # float32 [width]   input column
    y: np.ndarray  # float32 [height]  input row
    keep_x: np.ndarray  # bool [width]   inside the crop
    keep_y: np.ndarray  # bool [height]
    cell_x: np.ndarray  # uint16 [width]   column of the 4 x 4 window
    cell_y: np.ndarray  # uint16 [height]  row of the window, times windows a row

    def kept(self, x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
        """Mask of the events inside the crop; None where no pixel of the sensor is outside."""
        if self.keep_x.all() and self.keep_y.all():
            return None
        return self.keep_x[x] & self.keep_y[y]

    def cells(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Window of each event."""
        return self.cell_x[x] + self.cell_y[y]

    def mapped(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Input column and row of each event, float32 [N, 2]."""
        return np.stack([self.x[x], self.y[y]], 1)


def pixel_map(view: SensorView) -> PixelMap:
    """Tabulate a view.

    A mirrored column lies in (-1, width - 1]; columns in (-1, 0) belong to window 0, because windows
    truncate.
    """
    x = _shifted(view.width, view.scale_x, view.shift_x)
    y = _shifted(view.height, view.scale_y, view.shift_y)
    keep_x = (x >= 0) & (x < view.width)
    keep_y = (y >= 0) & (y < view.height)
    if view.flip:
        x = np.float32(view.width - 1) - x
    cells_a_row = -(-view.width // CELL)
    cell_x = np.where(keep_x, np.trunc(x / CELL), 0).astype(np.uint16)
    cell_y = np.where(keep_y, np.trunc(y / CELL) * cells_a_row, 0).astype(np.uint16)
    return PixelMap(x, y, keep_x, keep_y, cell_x, cell_y)


def _shifted(size: int, scale: float, shift: int) -> np.ndarray:
    return np.arange(size, dtype=np.float32) * np.float32(scale) + np.float32(shift)


def map_boxes(boxes: np.ndarray, view: SensorView) -> tuple[np.ndarray, np.ndarray]:
    """Map integer boxes `boxes` int64 [M, 4] (xyxy) to the view -> int64 [M', 4] and the kept rows, bool [M].

    A box stays if its centre lies in the crop; it is not clipped.
    """
    scale = np.array([view.scale_x, view.scale_y] * 2, np.float32)
    shift = np.array([view.shift_x, view.shift_y] * 2, np.int64)
    boxes = (boxes.astype(np.float32) * scale).astype(np.int64) + shift
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    keep = np.all((centre >= 0) & (centre < (view.width, view.height)), axis=1)
    boxes = boxes[keep]
    if view.flip:
        boxes[:, [0, 2]] = view.width - 1 - boxes[:, [2, 0]]
    return boxes, keep
