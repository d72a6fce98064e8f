"""The page of `view`: pictures, boxes of detectors and labels over time, one file that needs no network."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from jaxdet.files import atomic
from jaxdet.structs import Boxes

_TEMPLATE = Path(__file__).with_name("viewer.html")
_QUALITY = 85  # of JPEG
_LONGEST = 1280  # pixels of the longer side of a stored picture


class Moment(NamedTuple):
    """One picture with its boxes, which are in pixels of `size`.

    `hits` says of each box of each detector which row of `truth` it takes; -1: none, -2: not judged.
    """

    title: str
    size: tuple[int, int]  # height, width
    layers: Mapping[str, np.ndarray]  # by name: uint8 [H, W, 3], blue first, of any size of this shape
    truth: Boxes | None  # None: nothing is labelled at this time
    found: Sequence[Boxes]  # of each detector
    hits: Sequence[np.ndarray]  # int [n] of each detector
    maps: Mapping[str, np.ndarray] = {}


class Heading(NamedTuple):
    """All that a page says beside its pictures."""

    title: str
    classes: tuple[str, ...]  # labels of boxes index it
    detectors: tuple[str, ...]
    rate: float = 20.0  # pictures a second
    score: float = 0.3  # boxes below are hidden at first
    note: str = ""
    labels: bool = False  # some pictures are labelled


def write(path: str | Path, heading: Heading, packed: Sequence[dict[str, Any]]) -> None:
    """Write the page with the moments of `as_json`."""
    with atomic(path) as temporary:
        temporary.write_text(page(heading, packed), encoding="utf-8")


def page(heading: Heading, packed: Sequence[dict[str, Any]], most: int = 0) -> str:
    """The page with the moments of `as_json`; with `most`, it asks its server for more and keeps so many."""
    content = {**heading._asdict(), "moments": packed, "live": most > 0, "most": most}
    # In a script of HTML nothing is escaped but "</", which would end it.
    text = json.dumps(content, allow_nan=False).replace("<", "\\u003c")
    template = _TEMPLATE.read_text(encoding="utf-8")
    return template.replace("jaxdet view", html.escape(heading.title), 1).replace("@CONTENT@", text)


def as_json(moment: Moment) -> dict[str, Any]:
    """A moment as the page reads it: pictures as addresses of data, boxes as rows."""
    found = [_found(boxes, hits) for boxes, hits in zip(moment.found, moment.hits, strict=True)]
    region = []
    if moment.truth is not None and moment.truth.crowd is not None:
        region = np.flatnonzero(moment.truth.crowd).tolist()
    return {
        "title": moment.title,
        "size": list(moment.size),
        "layers": {name: _jpeg(picture) for name, picture in moment.layers.items()},
        "maps": {name: _heat(values) for name, values in moment.maps.items()},
        "truth": None if moment.truth is None else _labels(moment.truth),
        "region": region,
        "found": found,
    }


def _tracks(boxes: Boxes) -> np.ndarray:
    return np.full(len(boxes), -1) if boxes.track_ids is None else boxes.track_ids


def _found(boxes: Boxes, hits: np.ndarray) -> list[list[float]]:
    columns = boxes.xyxy.round(1).tolist(), boxes.scores.round(4).tolist(), boxes.labels.tolist()
    rows = zip(*columns, _tracks(boxes).tolist(), hits.tolist(), strict=True)
    return [[*box, score, label, track, hit] for box, score, label, track, hit in rows]


def _labels(boxes: Boxes) -> list[list[float]]:
    rows = zip(boxes.xyxy.round(1).tolist(), boxes.labels.tolist(), _tracks(boxes).tolist(), strict=True)
    return [[*box, label, track] for box, label, track in rows]


def _jpeg(picture: np.ndarray) -> str:
    longest = max(picture.shape[:2])
    if longest > _LONGEST:
        part = _LONGEST / longest
        picture = cv2.resize(picture, None, fx=part, fy=part, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _heat(values: np.ndarray) -> str:
    low, high = float(values.min()), float(values.max())
    grey = ((values - low) * (255 / (high - low or 1))).astype(np.uint8)
    _, data = cv2.imencode(".png", cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO))
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode()
