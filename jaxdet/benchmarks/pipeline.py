"""Speed of the input pipeline; for images also against a plain OpenCV loop that does the same in colour."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from jaxdet import data
from jaxdet.data import pipeline
from jaxdet.data.images import augment, samples
from jaxdet.data.images.augment import Draw
from jaxdet.data.images.letterbox import GREY
from jaxdet.data.images.samples import LabelledSet
from jaxdet.errors import InputError


def measure(block: Any, pairs: int, num_batches: int = 3 * pipeline.AHEAD) -> dict[str, float]:
    """Samples per second of the pipeline of a `data` block, from its start until it yielded `num_batches`.

    For images, the plain loop is timed in turn with the pipeline, `pairs` times each, and the ratio of the
    medians is given too. The pipeline is closed meanwhile, so that it neither works ahead nor slows the loop
    down.
    """
    stream = data.open(block, block.train_split)

    def ours():
        for _ in range(num_batches):
            next(stream)
        stream.close()

    count = num_batches * block.batch_size
    if block.kind != "images":
        return {"samples_per_s": round(count / statistics.median(_seconds(ours) for _ in range(pairs)), 2)}
    plain = _plain_samples(block)
    theirs = lambda: [next(plain) for _ in range(count)]  # noqa: E731
    times = [(_seconds(ours), _seconds(theirs)) for _ in range(pairs)]
    fast, slow = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "samples_per_s": round(count / fast, 2),
        "plain_loop_samples_per_s": round(count / slow, 2),
        "ratio": round(slow / fast, 2),
    }


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _plain_samples(block) -> Iterator[np.ndarray]:
    """Mosaics by plain code: one after the other, every image in three channels."""
    labelled = samples.open_set(block.root, block.train_split, tuple(block.classes))
    rng, num = np.random.default_rng(block.seed), len(labelled.items)
    settings = samples.RECIPES[block.recipe]
    shape = samples.input_shape(int(block.size), float(block.aspect), int(block.stride))
    while True:
        drawn = augment.draw(rng, int(rng.integers(num)), num, settings)
        threads = cv2.getNumThreads()
        cv2.setNumThreads(len(os.sched_getaffinity(0)))  # the loop may use all cores inside OpenCV
        yield _plain_sample(labelled, drawn, shape)
        cv2.setNumThreads(threads)


def _plain_sample(labelled: LabelledSet, drawn: Draw, shape: tuple[int, int]) -> np.ndarray:
    canvas = np.full((2 * shape[0], 2 * shape[1], 3), GREY, np.uint8)
    for corner, index in enumerate(drawn.mosaic.images):
        path = labelled.items[index].path
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(f"{path}: OpenCV cannot read this image; remove it from the data set")
        gain = min(shape[0] / image.shape[0], shape[1] / image.shape[1])
        image = cv2.resize(image, (int(image.shape[1] * gain), int(image.shape[0] * gain)))
        height, width = image.shape[:2]
        left = shape[1] if corner % 2 else shape[1] - width
        top = shape[0] if corner // 2 else shape[0] - height
        canvas[top : top + height, left : left + width] = image
    matrix = augment.matrix(drawn.mosaic.warp, canvas.shape[:2], shape)
    image = cv2.warpAffine(canvas, matrix[:2], shape[::-1], borderValue=(GREY, GREY, GREY))
    image = augment.recolour(image, drawn.gains)
    return cv2.cvtColor(image[:, ::-1] if drawn.flip_left else image, cv2.COLOR_BGR2RGB)
