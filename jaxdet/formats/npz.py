"""Boxes of many frames as arrays in a `.npz`, the format that loses nothing.

| array       | content                                                              |
| ----------- | -------------------------------------------------------------------- |
| keys        | text [F], `source` of each frame                                     |
| counts      | int [F], boxes of each frame                                         |
| boxes       | float [R, 4], corners in pixels, of all frames in their order        |
| scores      | float [R]                                                            |
| labels      | int [R]                                                              |
| frames      | int [F], number of a video's frame, -1 where there is none; optional |
| times_us    | int [F], time of a recording's step, -1; optional                    |
| sizes       | int [F, 2], height and width, 0 if unknown; optional                 |
| track_ids   | int [R], identity over time, -1 if none; only where a frame has some |
| class_names | text [C]; optional                                                   |
"""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxdet.errors import InputError
from jaxdet.files import VERSION_KEY, atomic, check_version
from jaxdet.formats import BoxFile, arrays
from jaxdet.structs import Boxes, ReadReport

_REQUIRED = ("keys", "counts", "boxes", "scores", "labels")


class _Columns(NamedTuple):
    """The arrays of a file, checked for themselves; see the table above."""

    keys: np.ndarray
    counts: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    frames: np.ndarray
    times_us: np.ndarray
    sizes: np.ndarray
    track_ids: np.ndarray | None
    class_names: np.ndarray


def read(path: str | os.PathLike) -> BoxFile:
    """Frames in the order of the file. InputError for arrays that disagree and frames that appear twice."""
    found = arrays.load_all(path, "arrays keys, counts, boxes, scores and labels")
    check_version({VERSION_KEY: found.get(VERSION_KEY, np.int64(1)).tolist()}, path)
    missing = [name for name in _REQUIRED if name not in found]
    if missing:
        raise InputError(f"{path}: no array {missing[0]}; expected keys, counts, boxes, scores and labels")
    try:
        columns = _columns(found)
    except ValueError as error:
        raise InputError(f"{path}: {error}; expected boxes as predict writes them") from error
    num_frames, num_boxes = len(columns.counts), len(columns.boxes)
    of_frames = (columns.keys, columns.frames, columns.times_us, columns.sizes)
    if any(len(column) != num_frames for column in of_frames) or not (
        columns.counts.sum() == num_boxes == len(columns.scores) == len(columns.labels)
    ):
        raise InputError(f"{path}: its arrays disagree in length; expected {num_frames} frames everywhere")
    if columns.track_ids is not None and len(columns.track_ids) != num_boxes:
        raise InputError(f"{path}: {len(columns.track_ids)} track_ids, expected {num_boxes}")
    identities = zip(columns.keys.tolist(), columns.frames.tolist(), columns.times_us.tolist())
    if len(set(identities)) < num_frames:
        raise InputError(f"{path}: a frame appears twice; expected each frame once")
    return BoxFile(_frames(columns), tuple(columns.class_names.tolist()), True, ReadReport())


def _columns(found: Mapping[str, np.ndarray]) -> _Columns:
    """The arrays of a file; ValueError for one of another type or with numbers out of range."""
    keys, boxes, scores = found["keys"], found["boxes"], arrays.numbers(found["scores"], "scores")
    counts = arrays.whole_numbers(found["counts"], "count", 0, len(scores) + 1)
    labels = arrays.whole_numbers(found["labels"], "label", 0, 2**31)
    unknown = np.full(len(counts), -1)
    frames = arrays.whole_numbers(found.get("frames", unknown), "frame", -1, 2**62)
    times_us = arrays.whole_numbers(found.get("times_us", unknown), "time", -1, 2**62)
    sizes = np.zeros((len(counts), 2), np.int64)
    if "sizes" in found and found["sizes"].size:
        sizes = arrays.whole_numbers(found["sizes"].ravel(), "size", 0, 2**31).reshape(-1, 2)
    tracks = found.get("track_ids")
    if tracks is not None:
        tracks = arrays.whole_numbers(tracks, "track", -1, 2**62)
    names = found.get("class_names", np.zeros(0, str))
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
        raise ValueError(f"boxes of type {boxes.dtype} {boxes.shape}, not [R, 4]")
    if keys.ndim != 1 or names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError("keys or class names that are not lists of text")
    return _Columns(keys, counts, boxes, scores, labels, frames, times_us, sizes, tracks, names)


def _frames(columns: _Columns) -> list[Boxes]:
    """The frames of arrays that agree in length."""
    names = tuple(columns.class_names.tolist())
    stops = np.cumsum(columns.counts)
    numbers = (columns.frames.tolist(), columns.times_us.tolist(), columns.sizes.tolist())
    frames = []
    for key, count, stop, frame, time_us, size in zip(columns.keys.tolist(), columns.counts, stops, *numbers):
        rows = slice(stop - count, stop)
        frames.append(
            Boxes(
                columns.boxes[rows],
                columns.scores[rows],
                columns.labels[rows].astype(np.int32),
                names,
                source=str(key),
                frame=None if frame < 0 else frame,
                time_us=None if time_us < 0 else time_us,
                track_ids=None if columns.track_ids is None else columns.track_ids[rows],
                image_size=(size[0], size[1]) if any(size) else None,
            )
        )
    return frames


def write(path: str | os.PathLike, frames: Sequence[Boxes], class_names: Sequence[str] = ()) -> None:
    """Write frames; numbers keep their precision, the widest of all frames."""
    content = {
        VERSION_KEY: np.int64(1),
        "keys": np.array([boxes.source for boxes in frames], str),
        "counts": np.array([len(boxes) for boxes in frames], np.int64),
        "boxes": np.concatenate([np.zeros((0, 4), np.float32), *(boxes.xyxy for boxes in frames)]),
        "scores": np.concatenate([np.zeros(0, np.float32), *(boxes.scores for boxes in frames)]),
        "labels": np.concatenate([np.zeros(0, np.int32), *(boxes.labels for boxes in frames)]),
        "frames": np.array([-1 if boxes.frame is None else boxes.frame for boxes in frames], np.int64),
        "times_us": np.array([-1 if boxes.time_us is None else boxes.time_us for boxes in frames], np.int64),
        "sizes": np.array([boxes.image_size or (0, 0) for boxes in frames], np.int32).reshape(-1, 2),
        "class_names": np.array(list(class_names), str),
    }
    if any(boxes.track_ids is not None for boxes in frames):
        ids = (np.full(len(b), -1) if b.track_ids is None else b.track_ids for b in frames)
        content["track_ids"] = np.concatenate([np.zeros(0, np.int64), *ids])
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **content)
