"""Inputs on which an exported file is compared with jaxdet: the user's own, or simulated ones."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet.data.images import decoding, letterbox, sets
from jaxdet.errors import InputError
from jaxdet.inference import sources
from jaxdet.structs import EventGeometry

MOST_STEPS = 200
MOST_IMAGES = 16  # to compare on
MOST_QUANTISED = 256  # whose ranges of values are taken
_SIMULATED_IMAGES = 2


def images(
    block: Any, size: tuple[int, int], source: Path | None, most: int = MOST_IMAGES
) -> Iterator[np.ndarray]:
    """Images [1, 3, H, W] float32, placed as the `data` block says; without a source, noise in blocks."""
    if source is None:
        yield from (_noise(size, seed) for seed in range(_SIMULATED_IMAGES))
        return
    for item in sets.open_input(source)[:most]:
        yield placed(block, size, decoding.read(item.path))[0]


def batches(images: Iterator[np.ndarray], batch: int | None) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of `batch` images, the last one filled up with its last image; None: two and one in turn."""
    sizes = itertools.cycle((2, 1)) if batch is None else itertools.repeat(batch)
    for size in sizes:
        part = list(itertools.islice(images, size))
        if not part:
            return
        part += part[-1:] * (0 if batch is None else size - len(part))
        yield {"images": np.concatenate(part)}


def placed(block: Any, size: tuple[int, int], image: np.ndarray) -> tuple[np.ndarray, letterbox.Placement]:
    """A decoded image (uint8 [H, W, 3], BGR) as the exported file takes it, and where it lies."""
    if block.placement == "yolov4":
        pixels, placement = letterbox.fit_yolov4(image, size, size=max(size))
        pixels = pixels[..., ::-1]
    else:
        pixels, placement = letterbox.fit_yolox(image, size)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32), placement


def _noise(size: tuple[int, int], seed: int) -> np.ndarray:
    """Noise in blocks of 4 to 64 pixels, which has edges as images do."""
    rng = np.random.default_rng(seed)
    total = np.zeros((3, *size))
    for cell in (64, 32, 16, 8, 4):
        grid = rng.random((3, -(-size[0] // cell), -(-size[1] // cell))) - 0.5
        total += 0.4 * grid.repeat(cell, 1).repeat(cell, 2)[:, : size[0], : size[1]]
    return (np.clip(total + 0.5, 0, 1) * 255).round().astype(np.float32)[None]


def steps(geometry: EventGeometry, num_events: int, source: Path | None) -> Iterator[dict[str, np.ndarray]]:
    """Events of up to 200 steps as the exported file takes them; without a source, simulated ones.

    A recording of another camera is fitted to the sensor as `predict` does it. Raises InputError for a step
    with more events than the file takes.
    """
    columns = _columns(geometry, source)
    t_us = columns[0]
    if not len(t_us):
        raise InputError(f"{source}: no events to compare with; give another recording")
    first = int(t_us[0]) // geometry.step_us * geometry.step_us
    count = min(MOST_STEPS, int(t_us[-1] - first) // geometry.step_us + 1)
    bounds = np.searchsorted(t_us, first + geometry.step_us * np.arange(count + 1))
    for step in range(count):
        part = slice(bounds[step], bounds[step + 1])
        t, x, y, polarity = (column[part] for column in columns)
        yield packed(geometry, num_events, t - first - step * geometry.step_us, x, y, polarity)


def _columns(geometry: EventGeometry, source: Path | None) -> Sequence[np.ndarray]:
    """Times, columns, rows and polarities of a recording's beginning."""
    if source is None:
        return _simulated(geometry)
    recording = sources.FittedRecording(source, geometry.size)
    pixels, parts, limit = recording.fit.pixels(), [], None
    for chunk in recording.chunks():
        if not len(chunk.t_us):
            continue
        t_us = np.asarray(chunk.t_us, np.int64)
        parts.append([t_us, pixels.x[chunk.x], pixels.y[chunk.y], chunk.p])
        limit = limit or int(t_us[0]) + MOST_STEPS * geometry.step_us
        if int(t_us[-1]) > limit:
            break
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)] if parts else [np.zeros(0)] * 4


def _simulated(geometry: EventGeometry) -> Sequence[np.ndarray]:
    """Edges of two bars that cross the sensor, and noise; about 400 events a step."""
    rng = np.random.default_rng(0)
    rows = []
    for step in range(MOST_STEPS):
        t = np.sort(rng.integers(0, geometry.step_us, 400)) + step * geometry.step_us
        x = rng.integers(0, geometry.width, 400)
        x[:300] = (
            step * 2 + rng.integers(0, 4, 300) + np.where(np.arange(300) < 150, 0, 60)
        ) % geometry.width
        y = rng.integers(0, geometry.height, 400)
        y[:300] = geometry.height // 4 + rng.integers(0, geometry.height // 3, 300)
        rows.append(np.stack([t, x, y, rng.integers(0, 2, 400)]))
    return list(np.concatenate(rows, 1))


def packed(geometry: EventGeometry, num_events: int, t_us, x, y, polarity) -> dict[str, np.ndarray]:
    """Events of one step [N], times from its start, sorted by cell and padded."""
    count = len(t_us)
    if count > num_events:
        raise InputError(f"{count} events in one step, the file takes {num_events}; raise --events")
    columns = -(-geometry.width // geometry.window)
    cell = np.trunc(y / geometry.window) * columns + np.trunc(x / geometry.window)
    order = np.argsort(cell, kind="stable")
    xy = np.zeros((1, num_events, 2), np.float32)
    xy[0, :count] = np.stack([x[order], y[order]], -1)
    times, signs = np.zeros((2, 1, num_events), np.int32)
    times[0, :count], signs[0, :count] = t_us[order], polarity[order]
    return {"xy": xy, "t_us": times, "polarity": signs, "count": np.array([count], np.int32)}
