"""Event camera that turns pictures into events, with unequal thresholds, a refractory period and noise.

The model is that of ESIM (Rebecq et al., "ESIM: an open event camera simulator", CoRL 2018): a pixel fires
each time its log intensity, linear between two pictures, has moved by one threshold from where it last fired.
"""

import numpy as np

from jaxdet.data.events.streams import EventChunk

MAX_PER_FRAME = 4  # crossings of one pixel between two pictures; a faster change is followed in the next ones


class Sensor:
    """Event camera. `threshold` is in log intensity, `mismatch` its relative spread, `noise_hz` per pixel."""

    def __init__(
        self,
        rng: np.random.Generator,
        first: np.ndarray,
        *,
        threshold: float,
        mismatch: float = 0.15,
        refractory_us: int = 500,
        noise_hz: float = 0.03,
    ):
        self._rng = rng
        self._width = first.shape[1]
        self._previous = first.reshape(-1)
        # Pixels start at unequal distances from their thresholds, as after a long time of operation.
        self._fired_at = self._previous + np.float32(threshold) * self._spread(0.9)
        self._brighter = np.float32(threshold) * (1 + self._spread(mismatch))
        self._darker = np.float32(threshold) * (1 + self._spread(mismatch))
        self._free_us = np.zeros(first.size, np.int64)
        self._refractory_us = refractory_us
        self._noise_hz = noise_hz

    def _spread(self, amount):
        return np.float32(amount) * (2 * self._rng.random(self._previous.size, np.float32) - 1)

    def until(self, image: np.ndarray, start_us: int, stop_us: int) -> EventChunk:
        """Events in [start_us, stop_us) while the picture changes from the last one into `image` [H, W]."""
        image = image.reshape(-1)
        batches = [self._noise(start_us, stop_us)]
        if image is not self._previous:
            batches += self._crossings(image, start_us, stop_us)
            self._previous = image
        t_us, pixel, p = (np.concatenate(column) for column in zip(*batches))
        order = np.lexsort((p, pixel, t_us))
        return self._rested(t_us[order], pixel[order], p[order])

    def _crossings(self, image, start_us, stop_us):
        moved = image - self._fired_at
        batches = []
        for sign, threshold, p in ((1, self._brighter, 1), (-1, self._darker, 0)):
            if sign < 0:
                moved = -moved
            pixel = np.flatnonzero(moved >= threshold)
            step, distance = threshold[pixel], moved[pixel]
            travelled = (image[pixel] - self._previous[pixel]) * np.float32(sign)
            count = np.minimum(distance / step, MAX_PER_FRAME).astype(np.int32)
            for k in range(1, MAX_PER_FRAME + 1):
                firing = np.flatnonzero(count >= k)
                if not len(firing):
                    break
                # What is left to travel after the k-th crossing, as a share of the way: 0 at the new picture.
                left = (distance[firing] - k * step[firing]) / np.maximum(travelled[firing], np.float32(1e-6))
                when = (1 - np.minimum(left, 1).astype(np.float64)) * (stop_us - start_us)
                t_us = np.minimum(start_us + when.astype(np.int64), stop_us - 1)
                batches.append((t_us, pixel[firing], np.full(len(firing), p, np.int8)))
            self._fired_at[pixel] += np.float32(sign) * count * step
        return batches

    def _noise(self, start_us, stop_us):
        expected = self._noise_hz * self._previous.size * (stop_us - start_us) / 1e6
        # Uniform between zero and twice the mean: exact arithmetic, unlike a Poisson draw.
        count = int(2 * expected * self._rng.random() + self._rng.random())
        t_us = self._rng.integers(start_us, stop_us, count)
        pixel = self._rng.integers(0, self._previous.size, count)
        return t_us, pixel, self._rng.integers(0, 2, count, np.int8)

    def _rested(self, t_us, pixel, p):
        """Drop events of a pixel within the refractory period of its last event."""
        keep = t_us >= self._free_us[pixel]
        order = np.argsort(pixel, kind="stable")
        gaps = np.diff(t_us[order])
        close = (np.diff(pixel[order]) == 0) & (gaps < self._refractory_us)
        keep[order[1:][close]] = False
        t_us, pixel, p = t_us[keep], pixel[keep], p[keep]
        self._free_us[pixel] = t_us + self._refractory_us
        y, x = np.divmod(pixel, self._width)
        return EventChunk(t_us, x.astype(np.int16), y.astype(np.int16), p)
