"""Batches of images at network size, decoded ahead by threads."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from jaxdet.data.images import decoding, letterbox
from jaxdet.data.images.sets import ImageItem
from jaxdet.errors import InputError
from jaxdet.structs import ReadReport

logger = logging.getLogger(__name__)

Fit = Callable[[np.ndarray, tuple[int, int]], tuple[np.ndarray, letterbox.Placement]]


class ImageBatch(NamedTuple):
    """Images side by side; rows beyond `len(items)` repeat the first image to keep the shape."""

    pixels: np.ndarray  # uint8 [B, H, W, 3]
    items: list[ImageItem]
    placements: list[letterbox.Placement]
    originals: list[np.ndarray]  # decoded images if `keep` was set; else empty


class Plan(NamedTuple):
    """Images in the order they are read, and the network size of every batch of them."""

    items: list[ImageItem]
    shapes: list[tuple[int, int]]

    def share(self, index: int, count: int, batch_size: int) -> "Plan":
        """Part `index` of `count` consecutive parts with about equally many whole batches each."""
        first, last = (part * len(self.shapes) // count for part in (index, index + 1))
        return Plan(self.items[first * batch_size : last * batch_size], self.shapes[first:last])


def fixed_plan(items: Sequence[ImageItem], batch_size: int, shape: tuple[int, int]) -> Plan:
    """Plan with the order given and one size for all batches."""
    return Plan(list(items), [shape] * -(-len(items) // batch_size))


def rect_plan(
    items: Sequence[ImageItem], batch_size: int, size: int, stride: int, pad: float, sort: bool = True
) -> tuple[Plan, int]:
    """Plan of batches of similar aspect (`letterbox.rect_shapes`), and the number of unreadable images.

    Without `sort` images stay in their order, and neighbours make a batch.
    """
    known = []
    for item in items:
        try:
            known.append((item, item.size or decoding.size_of(item.path)))
        except InputError as error:
            logger.warning("skipped: %s", error)
    order, shapes = letterbox.rect_shapes([s for _, s in known], batch_size, size, stride, pad, sort)
    return Plan([known[i][0] for i in order], shapes), len(items) - len(known)


def of_frames(
    frames: Iterable[np.ndarray],
    path: Path,
    batch_size: int,
    fit: Fit,
    shape: tuple[int, int],
    rgb: bool,
) -> Iterator[ImageBatch]:
    """Batches of the frames of a video, named `<stem>_<number>`; the next batch is made while one is used."""

    def load(numbered: list[tuple[int, np.ndarray]]) -> ImageBatch:
        placed = [fit(frame, shape) for _, frame in numbered]
        pixels = [p[..., ::-1] if rgb else p for p, _ in placed]
        pixels += [pixels[0]] * (batch_size - len(pixels))
        items = [ImageItem(path, f"{path.stem}_{i:06d}", i, frame.shape[:2]) for i, frame in numbered]
        return ImageBatch(np.stack(pixels), items, [p for _, p in placed], [frame for _, frame in numbered])

    with ThreadPoolExecutor(1) as pool:
        waiting: Future[ImageBatch] | None = None
        numbered = enumerate(frames)
        while part := list(islice(numbered, batch_size)):
            following = pool.submit(load, part)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


class Loader:
    """Iterate once over the batches of a plan. Unreadable images are logged and counted in `num_skipped`.

    `fit(image, shape)` places an image; `rgb` reverses the channels; `workers` threads decode up to `ahead`
    batches in advance. `radiometric` and `report` are those of `decoding.read`.
    """

    def __init__(
        self,
        plan: Plan,
        batch_size: int,
        fit: Fit,
        rgb: bool,
        workers: int = 2,
        ahead: int = 2,
        keep: bool = False,
        radiometric: str = "auto",
        report: ReadReport | None = None,
    ):
        self.plan, self.batch_size, self.fit, self.rgb = plan, batch_size, fit, rgb
        self.workers, self.ahead, self.keep = workers, ahead, keep
        self.radiometric, self.report = radiometric, report
        self.num_skipped = 0

    def __iter__(self) -> Iterator[ImageBatch]:
        waiting: deque[tuple[list[ImageItem], list[Future]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            for index, shape in enumerate(self.plan.shapes):
                items = self.plan.items[index * self.batch_size : (index + 1) * self.batch_size]
                waiting.append((items, [pool.submit(self._load, item, shape) for item in items]))
                if len(waiting) > self.ahead:
                    yield from self._ready(*waiting.popleft())
            while waiting:
                yield from self._ready(*waiting.popleft())

    def _load(
        self, item: ImageItem, shape: tuple[int, int]
    ) -> tuple[np.ndarray, letterbox.Placement, np.ndarray | None, ReadReport]:
        report = ReadReport()
        image = decoding.read(item.path, radiometric=self.radiometric, report=report)
        try:
            pixels, placement = self.fit(image, shape)
        except cv2.error as error:
            raise InputError(f"{item.path}: {image.shape} pixels cannot be resized to {shape}") from error
        return pixels[..., ::-1] if self.rgb else pixels, placement, image if self.keep else None, report

    def _ready(self, items: Iterable[ImageItem], futures: Iterable[Future]) -> Iterator[ImageBatch]:
        loaded = []
        for item, future in zip(items, futures, strict=True):
            try:
                loaded.append((item, *future.result()))
            except InputError as error:
                self.num_skipped += 1
                logger.warning("skipped: %s", error)
        if loaded:
            kept, pixels, placements, originals, reports = map(list, zip(*loaded, strict=True))
            if self.report is not None:
                for report in reports:
                    self.report.merge(report)
            rows = pixels + [pixels[0]] * (self.batch_size - len(pixels))
            yield ImageBatch(np.stack(rows), kept, placements, originals if self.keep else [])
