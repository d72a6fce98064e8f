"""Inference on images: folders, lists and videos, with the preprocessing of the model family.

Images are processed in batches of network size, with one compiled program per shape. A batch is started
before the one before it is fetched, and batches are decoded ahead, so the device waits for neither.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxdet.data.images import batches as image_batches
from jaxdet.data.images import decoding, letterbox
from jaxdet.data.images.batches import ImageBatch, Loader
from jaxdet.data.images.cameras import LiveVideo
from jaxdet.data.images.sets import ImageItem, VideoFile
from jaxdet.errors import InputError
from jaxdet.inference import folded, tta
from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.structs import Boxes, Detections, Images, ReadReport

logger = logging.getLogger(__name__)

VIEWS = {"none": (tta.TtaView(),), "flip": tta.FLIP, "scales": tta.SCALES}
_REPORT_S = 10  # seconds between two lines of progress


class ImageResult(NamedTuple):
    """Detections of one image, best first, with what drawing and the metric of Seq-YOLO need."""

    boxes: Boxes  # float32, pixels of the image
    item: ImageItem
    network_boxes: np.ndarray  # float32 [D, 4]   xyxy, network pixels
    placement: letterbox.Placement
    image: np.ndarray | None  # uint8 [H, W, 3], BGR; None if not kept


class ImagePredictor:
    """A detector of still images with its weights on the device, prepared for inference.

    `views` are those of test-time augmentation. `fast`, for CPU, uses Winograd's algorithm for wide
    convolutions (see `inference.folded`).
    """

    def __init__(
        self,
        skeleton: Skeleton,
        variables: Variables,
        views: Sequence[tta.TtaView] = (tta.TtaView(),),
        fast: bool = False,
    ):
        self._prepare = _preparation(skeleton, fast)
        skeleton, self._variables = self._prepare(variables)
        self._predict = functional.compiled(_predict, skeleton, tuple(views))

    def use(self, variables: Variables) -> None:
        """Replace the weights by others of the same model; nothing is compiled again."""
        _, self._variables = self._prepare(variables)

    def __call__(self, batches: Iterable[ImageBatch]) -> Iterator[ImageResult]:
        """Detections of the images of all batches, in order."""
        waiting: tuple[ImageBatch, Any] | None = None
        for batch in batches:
            started = self._predict(self._variables, batch.pixels, np.int32(len(batch.items)))
            if waiting is not None:
                yield from finish(*waiting)
            waiting = batch, started
        if waiting is not None:
            yield from finish(*waiting)


@lru_cache(maxsize=16)
def _preparation(skeleton: Skeleton, fast: bool):
    """`folded.prepare` as one compiled program, instead of a few for every layer."""
    skeletons = []

    @jax.jit
    def arrays(variables):
        prepared, result = folded.prepare(skeleton, variables, fast)
        skeletons.append(prepared)
        return result

    def prepare(variables: Variables) -> tuple[Skeleton, Variables]:
        result = arrays(variables)
        return skeletons[0], result

    return prepare


def _predict(skeleton, views, variables, pixels, num_images):
    count = pixels.shape[0]
    # Rows that only pad the batch are not slots.
    at_step = jnp.where(jnp.arange(count) < num_images, 0, -1)[:, None]
    detector = functional.merge(skeleton, variables)
    return tta.predict(detector, Images(pixels), at_step, jnp.ones(count, bool), views)


def finish(batch: ImageBatch, started: Detections) -> Iterator[ImageResult]:
    """Fetch the detections of a batch [B, 1, D, ...] and map their boxes to pixels of the images."""
    boxes, scores, labels, mask = (array[:, 0] for array in jax.device_get(started))
    height, width = batch.pixels.shape[1:3]
    for row, (item, placement) in enumerate(zip(batch.items, batch.placements, strict=True)):
        real = mask[row]
        network = boxes[row][real]
        if placement.clip:
            network = network.clip(0, np.array([width, height, width, height], network.dtype))
        original = letterbox.to_original(network, placement).astype(np.float32)
        found = Boxes(
            original,
            scores[row][real],
            labels[row][real],
            source=item.source or item.path.name,
            image_size=placement.size,
        )
        image = batch.originals[row] if batch.originals else None
        yield ImageResult(found, item, network, placement, image)


class PredictsItems(Protocol):
    """The part of `ItemPredictor` that an evaluation asks for."""

    num_skipped: int

    def items(
        self,
        items: Sequence[ImageItem],
        *,
        keep: bool = False,
        sort: bool = False,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[ImageResult]:
        """Detections of images; the options are those of `ItemPredictor.items`."""
        ...


class ItemPredictor:
    """Inference on image files, preprocessed as the `data` block of a config (of kind "images") says.

    `num_skipped` counts the images that could not be read; each was logged. `report` notes how the others
    were converted. The network size is rounded up to a multiple of the stride. Raises InputError for an
    unknown `data.placement`.
    """

    def __init__(self, block: Any, predictor: ImagePredictor, workers: int = 4):
        self._block, self._predictor, self._workers = block, predictor, workers
        self.class_names = tuple(block.classes)
        self.size: int = -(-block.size // block.stride) * block.stride
        self._rect = block.placement == "yolov4"
        if block.placement not in ("yolov4", "yolox"):
            raise InputError(f"data.placement is {block.placement!r}, expected yolov4 or yolox")
        self.num_skipped = 0
        self.report = ReadReport()
        self.radiometric = decoding.check_radiometric(getattr(block, "radiometric", "auto"))

    def items(
        self,
        items: Sequence[ImageItem],
        keep: bool = False,
        sort: bool = False,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[ImageResult]:
        """Detections of images, in their order or, with `sort`, by aspect ratio as in the released test.

        With `keep` the results hold the decoded images. `share` (i, n) takes only part i of n consecutive
        parts of the batches; the n parts together give all results, and count each skipped image once.
        """
        block = self._block
        if self._rect:
            plan, unreadable = image_batches.rect_plan(
                items, block.batch_size, self.size, block.stride, block.pad, sort
            )
            self.num_skipped += 0 if share[0] else unreadable
        else:
            plan = image_batches.fixed_plan(items, block.batch_size, (self.size, self.size))
        plan = plan.share(*share, block.batch_size)
        loader = Loader(
            plan, block.batch_size, self._fit(), self._rect, self._workers,
            keep=keep, radiometric=self.radiometric, report=self.report,
        )  # fmt: skip
        yield from map(self._named, _with_rate(self._predictor(loader), len(plan.items)))
        self.num_skipped += loader.num_skipped

    def video(self, video: VideoFile | LiveVideo) -> Iterator[ImageResult]:
        """Detections of every frame of a video; the results hold the frames."""
        block = self._block
        shape = (self.size, self.size)
        if self._rect:
            ((shape,),) = [letterbox.rect_shapes([video.size], 1, self.size, block.stride, block.pad)[1]]
        batches = image_batches.of_frames(video, video.path, block.batch_size, self._fit(), shape, self._rect)
        for result in _with_rate(self._predictor(batches), video.num_frames):
            yield self._named(result, source=video.path.stem, frame=result.item.image_id)

    def of_sources(self, sources: Iterable[Path | np.ndarray]) -> Iterator[Boxes]:
        """Boxes of each source, a path or an image (uint8 [H, W, 3], BGR), in order.

        A file that cannot be read is logged and counted in `num_skipped`, and its result has no boxes.
        """
        sources = iter(sources)
        for first in count(0, self._block.batch_size):
            part = list(islice(sources, self._block.batch_size))
            if not part:
                return
            yield from self._of_part(part, first)

    def _of_part(self, sources: list[Path | np.ndarray], first: int) -> Iterator[Boxes]:
        """Boxes of one batch of sources; `first` is the number of its first source."""
        images: dict[int, np.ndarray] = {}
        for index, source in enumerate(sources):
            try:
                images[index] = source if isinstance(source, np.ndarray) else self._read(source)
            except InputError as error:
                self.num_skipped += 1
                logger.warning("image without boxes, as it cannot be read: %s", error)
        found = {}
        if images:
            batch = self._batch_of([(i, sources[i], image) for i, image in images.items()])
            found = {result.item.image_id: result.boxes for result in self._predictor([batch])}
        for index, source in enumerate(sources):
            name = str(source) if isinstance(source, Path) else f"image_{first + index}"
            boxes = found.get(index, Boxes.none())
            yield replace(boxes, class_names=self.class_names, source=name)

    def _read(self, path: Path) -> np.ndarray:
        return decoding.read(path, radiometric=self.radiometric, report=self.report)

    def _batch_of(self, rows: list[tuple[int, Path | np.ndarray, np.ndarray]]) -> ImageBatch:
        """A batch of decoded images (index, source, image), in one shape that holds them all."""
        block, shape = self._block, (self.size, self.size)
        if self._rect:
            sizes = [image.shape[:2] for _, _, image in rows]
            _, (shape,) = letterbox.rect_shapes(sizes, len(rows), self.size, block.stride, block.pad, False)
        placed = [self._fit()(image, shape) for _, _, image in rows]
        pixels = [p[..., ::-1] if self._rect else p for p, _ in placed]
        pixels += [pixels[0]] * (block.batch_size - len(pixels))
        items = [ImageItem(Path(), "", index, image.shape[:2]) for index, _, image in rows]
        return ImageBatch(np.stack(pixels), items, [placement for _, placement in placed], [])

    def _named(self, result: ImageResult, **where: Any) -> ImageResult:
        return result._replace(boxes=replace(result.boxes, class_names=self.class_names, **where))

    def _fit(self) -> image_batches.Fit:
        return partial(letterbox.fit_yolov4, size=self.size) if self._rect else letterbox.fit_yolox


def _with_rate(found: Iterator[ImageResult], total: int) -> Iterator[ImageResult]:
    """Pass results on and log progress every few seconds.

    The rate excludes the first image, which waits for compilation.
    """
    done, began, first = 0, time.perf_counter(), 0.0
    reported = began
    for result in found:
        yield result
        done, now = done + 1, time.perf_counter()
        first = first or now
        if now - reported > _REPORT_S and done > 1:
            reported, rate = now, (done - 1) / max(now - first, 1e-9)
            left = f"/{total} images, {(total - done) / rate:.0f} s left" if total else " images"
            logger.info("%d%s, %.1f/s", done, left, rate)
    took = time.perf_counter() - began
    logger.info(
        "%d images, %.1f s, of which the first took %.1f s", done, took, first - began if first else 0
    )
