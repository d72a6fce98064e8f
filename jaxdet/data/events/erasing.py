"""Erased regions: parts of the sensor that are silent for a while, an augmentation of training windows.

The labels stay, so that a detector learns to keep what it saw before. It is Random Erasing (Zhong et al.,
AAAI 2020) for events.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxdet.data.events.streams import EventChunk

SIDE = (0.1, 0.4)  # of the sensor's height and width
TIME = (0.1, 0.5)  # of the window


class Region(NamedTuple):
    """Pixels from `x0`, `y0` to before `x1`, `y1`, from `start_us` to before `stop_us` of the window."""

    x0: int
    y0: int
    x1: int
    y1: int
    start_us: int
    stop_us: int


def draw(rng: np.random.Generator, num: int, height: int, width: int, window_us: int) -> list[Region]:
    """`num` regions of a sensor of height x width pixels, each anywhere and at any time of a window."""
    return [_region(rng, height, width, window_us) for _ in range(num)]


def _region(rng: np.random.Generator, height: int, width: int, window_us: int) -> Region:
    shares = rng.uniform(*np.transpose([SIDE, SIDE, TIME]))
    sizes = np.maximum(np.rint(shares * (width, height, window_us)), 1).astype(np.int64)
    x0, y0, start = rng.integers(0, np.array([width, height, window_us]) - sizes, endpoint=True).tolist()
    w, h, span = sizes.tolist()
    return Region(x0, y0, x0 + w, y0 + h, start, start + span)


def erase(events: EventChunk, regions: Sequence[Region], window_start_us: int) -> EventChunk:
    """The events outside the regions of a window that starts at `window_start_us` of their clock."""
    gone = np.zeros(len(events.t_us), bool)
    for region in regions:
        first, last = np.searchsorted(events.t_us, window_start_us + np.array(region[4:]))
        part = slice(first, last)
        x, y = events.x[part], events.y[part]
        gone[part] |= (x >= region.x0) & (x < region.x1) & (y >= region.y0) & (y < region.y1)
    return events.take(~gone) if gone.any() else events
