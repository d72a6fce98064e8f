"""Training batches as the network sees them, with their labels."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from jaxdet.data.pipeline import Source
from jaxdet.models import from_config
from jaxdet.structs import Batch, Boxes, Images
from jaxdet.viewing import drawing

_LANES, _COLUMNS, _SIDE = 16, 4, 320  # pictures of a batch, in a row, pixels of each
_STEPS = 10  # of events in a picture
_BATCHES = 3  # that are drawn at the start of a run


def write_first(folder: Path, cfg: Any, source: Source) -> None:
    """Write the first three batches of a run with config `cfg` as `batch_0.jpg` and so on."""
    images = cfg.data.kind == "images"
    rgb = images and cfg.data.placement == "yolov4"
    size = None if images else from_config.geometry(cfg).size
    for step in range(_BATCHES):
        batch, _ = source.batch(step)
        write(folder / f"batch_{step}.jpg", batch, tuple(cfg.data.classes), rgb, size)


def write(
    path: str | os.PathLike,
    batch: Batch,
    class_names: tuple[str, ...],
    rgb: bool = False,
    size: tuple[int, int] | None = None,
) -> None:
    """Write the first labelled slot of the first 16 lanes of a batch as one picture.

    `rgb` is the order of the channels of images; of events, those of up to 10 steps before the slot are drawn
    on the sensor of `size` (height, width). A lane without a label shows its first slot.
    """
    pictures = []
    for lane in range(min(len(batch.reset), _LANES)):
        labelled = batch.targets.slot_mask[lane] & batch.targets.box_mask[lane].any(-1)
        slot = int(labelled.argmax())
        pictures.append(
            _square(_picture(batch, lane, slot, rgb, size), _boxes(batch, lane, slot), class_names)
        )
    pictures += [np.zeros_like(pictures[0])] * (-len(pictures) % min(_COLUMNS, len(pictures)))
    rows = [
        np.concatenate(pictures[i : i + _COLUMNS], 1)
        for i in range(0, len(pictures), min(_COLUMNS, len(pictures)))
    ]
    drawing.write_picture(path, np.concatenate(rows))


def _picture(batch: Batch, lane: int, slot: int, rgb: bool, size) -> np.ndarray:
    if isinstance(batch.inputs, Images):
        pixels = np.asarray(batch.inputs.pixels[lane])
        return np.ascontiguousarray(pixels[..., ::-1] if rgb else pixels).astype(np.uint8)
    events, step = batch.inputs, int(batch.targets.at_step[lane, slot])
    starts = events.step_start[lane]
    rows = slice(int(starts[max(step + 1 - _STEPS, 0)]), int(starts[step + 1]))
    x, y = np.asarray(events.xy[lane, rows]).T
    return drawing.event_frame(x, y, events.polarity[lane, rows], size or (240, 304))


def _boxes(batch: Batch, lane: int, slot: int) -> Boxes:
    targets = batch.targets
    real = targets.box_mask[lane, slot]
    found = targets.boxes[lane, slot][real]
    return Boxes(found, np.ones(len(found)), targets.labels[lane, slot][real])


def _square(picture: np.ndarray, boxes: Boxes, class_names: tuple[str, ...]) -> np.ndarray:
    """The picture in a square of `_SIDE` pixels, boxes drawn after the change of scale to stay legible."""
    part = _SIDE / max(picture.shape[:2])
    small = cv2.resize(picture, None, fx=part, fy=part, interpolation=cv2.INTER_AREA)[:_SIDE, :_SIDE]
    drawn = drawing.draw(small, boxes.scaled(part), class_names, scores=False)
    square = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    square[: drawn.shape[0], : drawn.shape[1]] = drawn
    return square
