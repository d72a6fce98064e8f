"""An exported file as a predictor of image files, so that its AP can be measured as that of a model."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxdet.data.images import decoding, letterbox
from jaxdet.data.images.sets import ImageItem
from jaxdet.errors import InputError
from jaxdet.exporting import check, inputs
from jaxdet.exporting.runtimes import Run
from jaxdet.inference.images import ImageResult
from jaxdet.structs import Boxes

logger = logging.getLogger(__name__)


class FilePredictor:
    """Boxes of image files, one image at a time; stands for an `ItemPredictor` in an evaluation.

    `run` takes `batch` images, all of them the one that is looked at.
    """

    def __init__(self, block: Any, size: tuple[int, int], run: Run, batch: int = 1):
        self._block, self._size, self._run, self._batch = block, size, run, batch
        self.class_names = tuple(block.classes)
        self.num_skipped = 0

    def items(self, items: Sequence[ImageItem], **order: Any) -> Iterator[ImageResult]:
        """Detections of all images, in their order whatever `order` says; the unreadable are counted."""
        for item in items:
            try:
                image = decoding.read(item.path)
            except InputError as error:
                logger.warning("%s", error)
                self.num_skipped += 1
                continue
            yield self._of_image(item, image)

    def _of_image(self, item: ImageItem, image: np.ndarray) -> ImageResult:
        pixels, placement = inputs.placed(self._block, self._size, image)
        found = check.rows(self._run({"images": np.repeat(pixels, self._batch, 0)}), 0)
        network = np.asarray(found["boxes"], np.float32)
        if placement.clip:
            network = network.clip(0, np.array([*self._size[::-1]] * 2, np.float32))
        boxes = Boxes(
            letterbox.to_original(network, placement),
            np.asarray(found["scores"]),
            np.asarray(found["labels"]),
            source=item.source or item.path.name,
            image_size=placement.size,
            class_names=self.class_names,
        )
        return ImageResult(boxes, item, network, placement, None)
