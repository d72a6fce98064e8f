"""Events of a stretch of time as pictures: accumulated, and decayed with their age."""

import numpy as np

from jaxdet.viewing import drawing

_DECAY_US = 50_000.0


class EventPictures:
    """Takes events in order of time; `size` is (height, width) of the camera."""

    def __init__(self, size: tuple[int, int]):
        self._size = size
        self._last_us = np.full(size, -np.inf)
        self._polarity = np.zeros(size, np.int8)
        self._recent = drawing.event_frame([], [], [], size)

    def add(self, t_us, x, y, polarity) -> None:
        """Add events [N]; those outside the camera are left out of the pictures."""
        t_us, x, y, polarity = map(np.asarray, (t_us, x, y, polarity))
        inside = (x >= 0) & (y >= 0) & (x < self._size[1]) & (y < self._size[0])
        x, y = x[inside].astype(np.int64), y[inside].astype(np.int64)
        self._last_us[y, x] = t_us[inside]
        self._polarity[y, x] = polarity[inside]
        drawing.add_events(self._recent, x, y, polarity[inside])

    def take(self, now_us: int) -> dict[str, np.ndarray]:
        """Pictures at `now_us`, uint8 [H, W, 3]: of the events since the last call, and of all by their
        age."""
        pictures = {"accumulated": self._recent, "decayed": self._decayed(now_us)}
        self._recent = drawing.event_frame([], [], [], self._size)
        return pictures

    def _decayed(self, now_us: int) -> np.ndarray:
        """Each pixel's last event, whose colour fades by a factor of e in 50 ms."""
        weight = np.exp((self._last_us - now_us) / _DECAY_US)[..., None]
        colours = drawing.POLARITY_COLOURS[self._polarity]
        return (np.array(drawing.BACKGROUND) * (1 - weight) + colours * weight).astype(np.uint8)
