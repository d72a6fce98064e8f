"""The detections file: all that a detector says of recordings, clips and images, in one HDF5 file.

One group a recording, clip or folder. A frame is a key (time in us, frame number or path of an image), an
image size (zeros if unknown) and any number of boxes, none included; the boxes of all its frames lie in flat
arrays in frame order:

    /<name>/keys     int64 or text [F]      /<name>/boxes    float32 [R, 4]  xyxy, pixels of the image
    /<name>/sizes    int32 [F, 2]           /<name>/scores   float32 [R]
    /<name>/counts   int32 [F]              /<name>/labels   int32 [R]       index into the class names

Attributes of the file: format, version, key ("t_us", "frame" or "name"), class_names and metadata (JSON).
`Boxes.source` is the name of the group, and with key "name" the key itself: the group then only keeps the
images of a clip together.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote

import h5py
import numpy as np

from jaxdet import hdf5
from jaxdet.errors import InputError
from jaxdet.files import atomic
from jaxdet.formats import names
from jaxdet.structs import Boxes

FORMAT = "jaxdet-detections"
VERSION = 1
KEYS = ("t_us", "frame", "name")
_MOST_BYTES = 1 << 32  # of the boxes of one recording or clip in memory
_FAULTS = (
    KeyError, ValueError, TypeError, OSError, RuntimeError, AttributeError, OverflowError, MemoryError,
    IndexError,
)  # fmt: skip
_FLUSH_FRAMES = 2048
_FLUSH_ROWS = 65_536


class DetectionsWriter:
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

    def append(self, boxes: Boxes, name: str | None = None) -> None:
        """Add a frame to the group `name`, by default its recording, video, clip or folder.

        Raises InputError for rows that are not finite or of unequal number, and for a frame without the
        file's key.
        """
        key, where = self._key_of(boxes), names.path_name(boxes)
        xyxy = np.asarray(boxes.xyxy, np.float32).reshape(-1, 4)
        if not len(xyxy) == len(boxes.scores) == len(boxes.labels):
            raise InputError(
                f"{where}: {len(xyxy)} boxes, {len(boxes.scores)} scores, {len(boxes.labels)} labels; "
                "expected as many of each"
            )
        if not (np.isfinite(xyxy).all() and np.isfinite(boxes.scores).all()):
            raise InputError(f"{where}: a box or score is not finite; check the weights")
        name = (_group(boxes) if self._key == "name" else boxes.source) if name is None else name
        if name != self._name or len(self._frames) >= _FLUSH_FRAMES or self._num_rows >= _FLUSH_ROWS:
            self.flush()
            self.add_clip(name)
            self._name = name
        size = (boxes.image_size or (0, 0))[::-1]
        scores, labels = np.asarray(boxes.scores, np.float32), np.asarray(boxes.labels, np.int32)
        self._frames.append((key, size, len(xyxy), xyxy, scores, labels))
        self._num_rows += len(xyxy)

    def _key_of(self, boxes: Boxes) -> int | str:
        key = {"t_us": boxes.time_us, "frame": boxes.frame, "name": names.file_name(boxes)}[self._key]
        if key is None:
            raise InputError(
                f"{names.path_name(boxes)}: no {self._key}, by which this file tells frames apart; "
                "write recordings, videos and images into a file each"
            )
        return key

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


class DetectionsReader:
    """Reads clips one at a time."""

    def __init__(self, file: Any):
        self._file = file
        with _one_line(file.filename):
            self.key: str = file.attrs["key"]
            self.class_names: tuple[str, ...] = tuple(map(str, json.loads(file.attrs["class_names"])))
            self.metadata: dict = dict(json.loads(file.attrs["metadata"]))
            if self.key not in KEYS:
                raise ValueError(f"key {self.key!r}")
        self.names: list[str] = sorted(unquote(group) for group in file)

    def frames(self, name: str) -> list[Boxes]:
        """Frames of the group `name` in the order they were written; InputError if there is no such group."""
        group = self._file.get(quote(name, safe=" "))
        if group is None:
            raise InputError(f"{self._file.filename}: no detections of {name}; predict it first")
        with _one_line(f"{self._file.filename}: {name}"):
            return self._frames(name, group)

    def _frames(self, name: str, group: Any) -> list[Boxes]:
        fields = {field: group[field] for field in ("keys", "sizes", "counts", "boxes", "scores", "labels")}
        num_bytes = sum(field.size * field.dtype.itemsize for field in fields.values())
        odd = [name for name, field in fields.items() if name != "keys" and field.dtype.kind not in "iuf"]
        if odd:
            raise ValueError(f"{odd[0]} of type {fields[odd[0]].dtype}")
        if num_bytes > _MOST_BYTES:
            raise ValueError(f"{num_bytes} bytes of boxes in one group")
        keys = group["keys"].asstr()[:] if self.key == "name" else group["keys"][:].tolist()
        xyxy, scores, labels = (group[field][:] for field in ("boxes", "scores", "labels"))
        counts = group["counts"][:]
        stops = np.cumsum(counts, dtype=np.int64)
        if (counts < 0).any() or not counts.sum() == len(xyxy) == len(scores) == len(labels):
            found = f"{len(xyxy)} boxes, {len(scores)} scores, {len(labels)} labels"
            raise ValueError(f"{found}, and counts of {counts.sum()}")
        if not len(keys) == len(counts) == len(group["sizes"]) or xyxy.shape[1:] != (4,):
            raise ValueError(f"{len(keys)} keys, {len(counts)} counts, boxes {xyxy.shape}")
        return [
            Boxes(
                xyxy[stop - count : stop],
                scores[stop - count : stop],
                labels[stop - count : stop],
                self.class_names,
                image_size=(height, width) if height and width else None,
                **self._identity(name, key),
            )
            for key, (width, height), count, stop in zip(keys, group["sizes"][:].tolist(), counts, stops)
        ]

    def _identity(self, name: str, key: int | str) -> dict[str, Any]:
        if self.key == "name":
            return {"source": str(key)}
        return {"source": name, "time_us" if self.key == "t_us" else "frame": key}

    def __iter__(self) -> Iterator[Boxes]:
        return (boxes for name in self.names for boxes in self.frames(name))


@contextmanager
def _one_line(where: str) -> Iterator[None]:
    """Whatever a damaged file makes HDF5 and NumPy raise becomes an InputError."""
    try:
        yield
    except _FAULTS as error:
        text = ascii(" ".join(str(error).split()))[1:-1][:160]
        raise InputError(f"{where}: {text}; expected detections written by predict") from error


def key_of(boxes: Boxes) -> str:
    """The key of a file that holds frames such as this one."""
    if boxes.time_us is not None:
        return "t_us"
    return "name" if boxes.frame is None else "frame"


@contextmanager
def create(
    path: str | os.PathLike, class_names: Sequence[str], key: str, metadata: dict | None = None
) -> Iterator[DetectionsWriter]:
    """Write a detections file; it appears under `path` when the block ends without an exception.

    `metadata` is stored as it is then, so that what was counted on the way is part of it.
    """
    if key not in KEYS:
        raise ValueError(f"key {key}; expected one of {', '.join(KEYS)}")
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(
            format=FORMAT,
            version=VERSION,
            key=key,
            class_names=json.dumps(list(class_names)),
        )
        writer = DetectionsWriter(file, key)
        yield writer
        writer.flush()
        file.attrs["metadata"] = json.dumps(metadata or {}, sort_keys=True)


@contextmanager
def read(path: str | os.PathLike) -> Iterator[DetectionsReader]:
    """Open a detections file; InputError for another file, a newer version, and links to other files."""
    with hdf5.open_own(path, "detections written by predict") as file:
        with _one_line(str(path)):
            found = file.attrs.get("format")
        if found != FORMAT:
            raise InputError(
                f"{path}: an HDF5 file, but not one of detections; expected the output of predict"
            )
        with _one_line(str(path)):
            version = int(file.attrs["version"])
        if version > VERSION:
            raise InputError(f"{path}: version {version} found, up to {VERSION} known; update jaxdet")
        yield DetectionsReader(file)


def _group(boxes: Boxes) -> str:
    """The clip of an image, or its folder."""
    try:
        return names.clip_and_number(boxes)[0] or "images"
    except InputError:
        return names.path_name(boxes).rpartition("/")[0] or "images"


def _extend(dataset: Any, values: Sequence | np.ndarray) -> None:
    size = dataset.shape[0]
    dataset.resize(size + len(values), axis=0)
    dataset[size:] = values
