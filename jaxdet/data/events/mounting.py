"""Cameras that hang mirrored or turned: their events upright, and boxes back in their own pixels."""

from typing import NamedTuple

import numpy as np

from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError

FLIPS = {None: (False, False), "x": (True, False), "y": (False, True), "xy": (True, True)}
TURNS = (0, 90, 180, 270)


class Mounting(NamedTuple):
    """A camera's picture is mirrored first, then turned clockwise; the result is upright."""

    flip: str | None = None  # "x": left and right, "y": up and down, "xy"
    rotate: int = 0  # degrees clockwise, of TURNS

    def check(self) -> "Mounting":
        """This mounting; InputError for a flip or a rotation that is not known."""
        if self.flip not in FLIPS:
            raise InputError(f"flip {self.flip!r}; expected x (left and right), y (up and down) or xy")
        if self.rotate not in TURNS:
            raise InputError(f"rotate {self.rotate}; expected 0, 90, 180 or 270 degrees clockwise")
        return self

    def size(self, camera: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the upright picture of a camera."""
        height, width = camera
        return (height, width) if self.rotate in (0, 180) else (width, height)

    def events(self, events: EventChunk, camera: tuple[int, int]) -> EventChunk:
        """Events of a camera (height, width) in upright pixels."""
        if self == Mounting():
            return events
        x, y, (height, width) = events.x, events.y, camera
        mirror_x, mirror_y = FLIPS[self.flip]
        x, y = width - 1 - x if mirror_x else x, height - 1 - y if mirror_y else y
        if self.rotate == 90:
            x, y = height - 1 - y, x
        elif self.rotate == 180:
            x, y = width - 1 - x, height - 1 - y
        elif self.rotate == 270:
            x, y = y, width - 1 - x
        return events._replace(x=x, y=y)

    def boxes(self, xyxy: np.ndarray, camera: tuple[int, int]) -> np.ndarray:
        """Boxes [M, 4] of a camera (height, width) in upright pixels; pixel i covers [i, i + 1)."""
        if self == Mounting():
            return xyxy
        height, width = camera
        x0, y0, x1, y1 = xyxy.T
        mirror_x, mirror_y = FLIPS[self.flip]
        if mirror_x:
            x0, x1 = width - x1, width - x0
        if mirror_y:
            y0, y1 = height - y1, height - y0
        if self.rotate == 90:
            x0, y0, x1, y1 = height - y1, x0, height - y0, x1
        elif self.rotate == 180:
            x0, y0, x1, y1 = width - x1, height - y1, width - x0, height - y0
        elif self.rotate == 270:
            x0, y0, x1, y1 = y0, width - x1, y1, width - x0
        return np.stack([x0, y0, x1, y1], -1)

    def inverse(self) -> "Mounting":
        """The mounting that undoes this one, for a camera of the upright size."""
        if self.rotate in (0, 180):  # mirrors and a half turn change places freely, and undo themselves
            return self
        if self.flip in ("x", "y"):  # a mirror and a quarter turn together are a mirror at a diagonal
            return self
        return self._replace(rotate=360 - self.rotate)

    def phrase(self) -> str:
        """Words for the log, "" for a camera that hangs upright."""
        words = {"x": "left and right mirrored", "y": "up and down mirrored", "xy": "mirrored both ways"}
        parts = [words[self.flip]] if self.flip else []
        parts += [f"turned by {self.rotate} degrees clockwise"] if self.rotate else []
        return ", ".join(parts)
