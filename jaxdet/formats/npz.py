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
from collections.abc import Sequence

import numpy as np

from jaxdet.errors import InputError
from jaxdet.files import VERSION_KEY, atomic, check_version
from jaxdet.formats import BoxFile, arrays
from jaxdet.structs import Boxes, ReadReport

_REQUIRED = ("keys", "counts", "boxes", "scores", "labels")


def read(path: str | os.PathLike) -> BoxFile:
    """Frames in the order of the file. InputError for arrays that disagree and frames that appear twice."""
    found = arrays.load_all(path, "arrays keys, counts, boxes, scores and labels")
    check_version({VERSION_KEY: found.get(VERSION_KEY, np.int64(1)).tolist()}, path)
    missing = [name for name in _REQUIRED if name not in found]
    if missing:
        raise InputError(f"{path}: no array {missing[0]}; expected keys, counts, boxes, scores and labels")
    try:
        keys, boxes, scores = found["keys"], found["boxes"], arrays.numbers(found["scores"], "scores")
        counts = arrays.whole_numbers(found["counts"], "count", 0, len(scores) + 1)
        labels = arrays.whole_numbers(found["labels"], "label", 0, 2**31)
        num_frames = len(counts)
        unknown = np.full(num_frames, -1)
        numbers = arrays.whole_numbers(found.get("frames", unknown), "frame", -1, 2**62)
        times = arrays.whole_numbers(found.get("times_us", unknown), "time", -1, 2**62)
        sizes = np.zeros((num_frames, 2), np.int64)
        if "sizes" in found and found["sizes"].size:
            sizes = arrays.whole_numbers(found["sizes"].ravel(), "size", 0, 2**31).reshape(-1, 2)
        tracks = None
        if "track_ids" in found:
            tracks = arrays.whole_numbers(found["track_ids"], "track", -1, 2**62)
        class_names = found.get("class_names", np.zeros(0, str))
        if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
            raise ValueError(f"boxes of type {boxes.dtype} {boxes.shape}, not [R, 4]")
        if keys.ndim != 1 or class_names.ndim != 1 or class_names.dtype.kind != "U":
            raise ValueError("keys or class names that are no lists of text")
    except ValueError as error:
        raise InputError(f"{path}: {error}; expected boxes as predict writes them") from error
    if not len(keys) == num_frames == len(numbers) == len(times) == len(sizes) or not (
        counts.sum() == len(boxes) == len(scores) == len(labels)
    ):
        raise InputError(f"{path}: its arrays disagree in length; expected {num_frames} frames everywhere")
    identities = list(zip(keys.tolist(), numbers.tolist(), times.tolist()))
    if len(set(identities)) < num_frames:
        raise InputError(f"{path}: a frame appears twice; expected each frame once")
    if tracks is not None and len(tracks) != len(boxes):
        raise InputError(f"{path}: {len(tracks)} track_ids, expected {len(boxes)}")
    names = tuple(class_names.tolist())
    stops = np.cumsum(counts)
    frames = [
        Boxes(
            boxes[stop - count : stop],
            scores[stop - count : stop],
            labels[stop - count : stop].astype(np.int32),
            names,
            source=str(key),
            frame=None if number < 0 else number,
            time_us=None if time < 0 else time,
            track_ids=None if tracks is None else tracks[stop - count : stop],
            image_size=(int(size[0]), int(size[1])) if size.any() else None,
        )
        for (key, number, time), count, stop, size in zip(identities, counts, stops, sizes)
    ]
    return BoxFile(frames, names, True, ReadReport())


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
