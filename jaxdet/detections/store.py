"""The detections file: the one format of predict, seqnms, submit and evaluate.

An HDF5 file with one group per recording or clip. A frame is a key (time in us, frame number or file name), an image
size and any number of boxes, none included; the boxes of all its frames lie in flat arrays in frame order:

    /<name>/keys     int64 or text [F]      /<name>/boxes    float32 [R, 4]  xyxy, pixels of the image
    /<name>/sizes    int32 [F, 2]           /<name>/scores   float32 [R]
    /<name>/counts   int32 [F]              /<name>/labels   int32 [R]       index into the class names

Attributes of the file: format, version, key ("t_us", "frame" or "name"), class_names and metadata (JSON).
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import h5py
import numpy as np

from jaxdet.data import hdf5
from jaxdet.errors import InputError
from jaxdet.files import atomic

FORMAT = "jaxdet-detections"
VERSION = 1
KEYS = ("t_us", "frame", "name")
_FLUSH_FRAMES = 2048
_FLUSH_ROWS = 65_536


class Clip(NamedTuple):
    """Detections of one recording or clip."""

    keys: np.ndarray  # int64 or object (str) [F]
    sizes: np.ndarray  # int32 [F, 2]       width, height
    starts: np.ndarray  # int64 [F + 1]      boxes of frame i are rows starts[i] : starts[i + 1]
    boxes: np.ndarray  # float32 [R, 4]
    scores: np.ndarray  # float32 [R]
    labels: np.ndarray  # int32 [R]

    def frame(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(boxes, scores, labels) of frame `i`."""
        rows = slice(self.starts[i], self.starts[i + 1])
        return self.boxes[rows], self.scores[rows], self.labels[rows]


class Writer:
    """Appends frames; only what was added since the last flush is held in memory."""

    def __init__(self, file: Any, key: str):
        self._file, self._key, self._name = file, key, ""
        self._frames: list[tuple] = []
        self._num_rows = 0

    def add_clip(self, name: str) -> None:
        """Make sure that `name` exists, even if no frame follows."""
        if quote(name, safe=" ") in self._file:
            return
        group = self._file.create_group(quote(name, safe=" "))
        key_type = h5py.string_dtype() if self._key == "name" else np.int64
        for field, dtype, shape in (
            ("keys", key_type, ()),
            ("sizes", np.int32, (2,)),
            ("counts", np.int32, ()),
            ("boxes", np.float32, (4,)),
            ("scores", np.float32, ()),
            ("labels", np.int32, ()),
        ):
            group.create_dataset(
                field, (0, *shape), dtype, maxshape=(None, *shape), chunks=(4096, *shape), compression="gzip",
                compression_opts=1, shuffle=True,
            )  # fmt: skip

    def append(self, name: str, key, size, boxes, scores, labels) -> None:
        """Add one frame of clip `name`: `boxes` [D, 4] xyxy pixels, `scores` [D], `labels` [D]; D may be 0.

        Raises InputError for rows that are not finite or of unequal number.
        """
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        scores, labels = np.asarray(scores, np.float32).ravel(), np.asarray(labels, np.int32).ravel()
        if not len(boxes) == len(scores) == len(labels):
            raise InputError(
                f"{name} {key}: {len(boxes)} boxes, {len(scores)} scores, {len(labels)} labels; expected as many of each"
            )
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise InputError(f"{name} {key}: a box or score is not finite; check the weights")
        if name != self._name or len(self._frames) >= _FLUSH_FRAMES or self._num_rows >= _FLUSH_ROWS:
            self.flush()
            self.add_clip(name)
            self._name = name
        self._frames.append((key, size, len(boxes), boxes, scores, labels))
        self._num_rows += len(boxes)

    def append_clip(self, name: str, clip: Clip) -> None:
        """Add all frames of `clip`."""
        self.add_clip(name)
        for i, key in enumerate(clip.keys):
            self.append(name, key, clip.sizes[i], *clip.frame(i))

    def flush(self) -> None:
        """Hand what is buffered to the file."""
        if not self._frames:
            return
        group = self._file[quote(self._name, safe=" ")]
        keys, sizes, counts, *rows = zip(*self._frames)
        _extend(group["keys"], list(keys))
        _extend(group["sizes"], np.asarray(sizes, np.int32))
        _extend(group["counts"], np.asarray(counts, np.int32))
        for field, parts in zip(("boxes", "scores", "labels"), rows):
            _extend(group[field], np.concatenate(parts))
        self._frames, self._num_rows = [], 0


class Reader:
    """Reads clips one at a time."""

    def __init__(self, file: Any):
        self._file = file
        self.key: str = file.attrs["key"]
        self.class_names: tuple[str, ...] = tuple(json.loads(file.attrs["class_names"]))
        self.metadata: dict = json.loads(file.attrs["metadata"])
        self.names: list[str] = sorted(unquote(group) for group in file)

    def clip(self, name: str) -> Clip:
        """Detections of clip `name`; InputError if there is none of this name."""
        group = self._file.get(quote(name, safe=" "))
        if group is None:
            raise InputError(f"{self._file.filename}: no detections of {name}; predict it first")
        keys = group["keys"].asstr()[:] if self.key == "name" else group["keys"][:]
        starts = np.concatenate(([0], np.cumsum(group["counts"][:], dtype=np.int64)))
        return Clip(keys, group["sizes"][:], starts, *(group[k][:] for k in ("boxes", "scores", "labels")))

    def __iter__(self) -> Iterator[tuple[str, Clip]]:
        return ((name, self.clip(name)) for name in self.names)


def clip(frames: Sequence[tuple]) -> Clip:
    """Make a clip of frames (key, (width, height), boxes, scores, labels)."""
    keys, sizes, boxes, scores, labels = zip(*frames) if frames else ((),) * 5
    boxes = [np.asarray(b, np.float32).reshape(-1, 4) for b in boxes]
    return Clip(
        np.array(keys, object if keys and isinstance(keys[0], str) else np.int64),
        np.asarray(sizes, np.int32).reshape(-1, 2),
        np.concatenate(([0], np.cumsum([len(b) for b in boxes], dtype=np.int64))),
        np.concatenate([np.zeros((0, 4), np.float32), *boxes]),
        np.concatenate([np.zeros(0, np.float32), *(np.asarray(s, np.float32).ravel() for s in scores)]),
        np.concatenate([np.zeros(0, np.int32), *(np.asarray(v, np.int32).ravel() for v in labels)]),
    )


@contextmanager
def create(
    path: str | os.PathLike, class_names: Sequence[str], key: str, metadata: dict | None = None
) -> Iterator[Writer]:
    """Write a detections file; it appears under `path` when the block ends without an exception."""
    if key not in KEYS:
        raise ValueError(f"key {key}; expected one of {', '.join(KEYS)}")
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(
            format=FORMAT,
            version=VERSION,
            key=key,
            class_names=json.dumps(list(class_names)),
            metadata=json.dumps(metadata or {}, sort_keys=True),
        )
        writer = Writer(file, key)
        yield writer
        writer.flush()


@contextmanager
def read(path: str | os.PathLike) -> Iterator[Reader]:
    """Open a detections file; raises InputError if it is none, of a newer version, or leads to other files."""
    with hdf5.open_own(path, "detections written by predict") as file:
        if file.attrs.get("format") != FORMAT:
            raise InputError(
                f"{path}: an HDF5 file, but not one of detections; expected the output of predict"
            )
        if file.attrs["version"] > VERSION:
            raise InputError(
                f"{path}: version {file.attrs['version']} found, up to {VERSION} known; update jaxdet"
            )
        yield Reader(file)


def _extend(dataset, values):
    size = dataset.shape[0]
    dataset.resize(size + len(values), axis=0)
    dataset[size:] = values
