"""Boxes read from and written to a file of any format, by its suffix; `formats.HOLDS` says what each keeps.

| name        | format                                                                          |
| ----------- | ------------------------------------------------------------------------------- |
| .h5, .hdf5  | the detections file (`detections.store`)                                        |
| .npy        | rows as the released HMNet writes them, one recording                           |
| .json       | COCO results                                                                    |
| .pkl        | the pickle of the released Seq-YOLO: 3 decimals, images without boxes left out  |
| .npz        | arrays, which lose nothing                                                      |
| .txt        | MOT challenge text, one clip                                                    |
| .csv        | a table with a header line                                                      |
| a folder    | YOLO text, a file an image; read: also a folder of .npy                         |
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet import class_names as names_of
from jaxdet.detections import store
from jaxdet.errors import InputError
from jaxdet.files import safe_path
from jaxdet.formats import BoxFile, coco, csv, mot, names, npy, npz, pickle, yolo
from jaxdet.structs import Boxes, ReadReport

logger = logging.getLogger(__name__)

Append = Callable[[Boxes], None]


def format_of(path: str | os.PathLike) -> str:
    """The format's name in `formats.HOLDS`. Raises InputError for a suffix of no format."""
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES or (Path(path).is_dir() and suffix):
        known = ", ".join(filter(None, _SUFFIXES))
        raise InputError(
            f"{path}: suffix {suffix or 'missing'}; expected one of {known}, or a folder for YOLO text"
        )
    return _SUFFIXES[suffix]


def read(path: str | os.PathLike, annotations: coco.Annotations | None = None) -> BoxFile:
    """Read the boxes of a file or folder.

    `annotations` give COCO results the names of their images and classes, and YOLO text the sizes of its
    images. Raises InputError for unreadable files, numbers that are not finite and frames that appear twice.
    """
    path = Path(path)
    kind = format_of(path)
    if kind == "yolo":
        found = _read_folder(path, annotations)
    elif not path.is_file():
        raise InputError(f"{path}: no such file; expected boxes")
    elif kind == "json":
        found = coco.read_results(path, annotations)
    elif kind == "h5":
        with store.read(path) as reader:
            found = BoxFile(list(reader), reader.class_names, True, ReadReport(), reader.metadata)
    else:
        found = {"npy": npy, "pkl": pickle, "npz": npz, "txt": mot, "csv": csv}[kind].read(path)
    _check(found.frames, path)
    return found


def _check(frames: Sequence[Boxes], path: Path) -> None:
    seen: set[tuple] = set()
    for boxes in frames:
        if not (np.isfinite(boxes.xyxy).all() and np.isfinite(boxes.scores).all()):
            raise InputError(
                f"{path}: {names.path_name(boxes)} holds a box or score that is not finite; check the weights"
            )
        identity = (boxes.source, boxes.frame, boxes.time_us, boxes.image_id)
        if identity in seen:
            raise InputError(
                f"{path}: frame {names.path_name(boxes)} appears twice; expected each frame once"
            )
        seen.add(identity)


def _read_folder(path: Path, annotations: coco.Annotations | None) -> BoxFile:
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected YOLO text, or .npy files of recordings")
    if tables := sorted(path.glob("*.npy")):
        parts = [npy.read(table) for table in tables]
        frames = [boxes for part in parts for boxes in part.frames]
        return BoxFile(frames, (), all(part.has_scores for part in parts), ReadReport())
    texts = sorted(path.rglob("*.txt"))
    if not texts:
        raise InputError(f"{path}: no .txt below it and no .npy in it; expected YOLO text, or recordings")
    if annotations is None:
        raise InputError(f"{path}: YOLO text does not know the sizes of its images; give COCO annotations")
    index = names.index_of([boxes.source for boxes in annotations.frames])
    report, frames = ReadReport(), []
    for text in texts:
        name = text.relative_to(path).with_suffix("").as_posix()
        position = index(name)
        size = None if position is None else annotations.frames[position].image_size
        if position is None or size is None:
            raise InputError(f"{text}: no image of this name with a size among the annotations")
        frames.append(yolo.read_text(text, size, report, source=annotations.frames[position].source))
    return BoxFile(frames, (), True, report)


@contextmanager
def writer(
    path: str | os.PathLike,
    class_names: Sequence[str],
    metadata: dict[str, Any] | None = None,
    *,
    key: str = "name",
    sources: Sequence[str] = (),
    annotations: str | os.PathLike | None = None,
) -> Iterator[Append]:
    """Yield what takes the boxes of one frame after another; the file appears when the block ends.

    `key` says what tells the frames apart (`store.KEYS`): images, frames of a video, steps of a recording.
    `sources` are the images, videos or recordings to come, so that what the format cannot hold is refused
    before the work. COCO results take the ids of images and classes from `annotations`, where given.
    """
    kind = format_of(path)
    _check_identity(path, kind, key, sources)
    class_names = tuple(class_names)
    with ExitStack() as stack:
        if kind == "h5":
            opened = stack.enter_context(store.create(path, class_names, key, metadata))
            for source in () if key == "name" else sources:
                opened.add_clip(source)
            append: Append = opened.append
        elif kind == "npy":
            append = stack.enter_context(npy.writer(path))
        elif kind == "yolo":
            append = lambda boxes: yolo.write_text(path, boxes) and None  # noqa: E731
        elif kind == "json":
            append = stack.enter_context(_results(path, class_names, sources, annotations))
        else:
            append = stack.enter_context(_collected(path, kind, class_names))

        def checked(boxes: Boxes) -> None:
            if not (np.isfinite(boxes.xyxy).all() and np.isfinite(boxes.scores).all()):
                raise InputError(f"{names.path_name(boxes)}: a box or score is not finite; check the weights")
            append(boxes)

        yield checked


def write(
    path: str | os.PathLike,
    frames: Sequence[Boxes],
    class_names: Sequence[str] = (),
    metadata: dict[str, Any] | None = None,
) -> None:
    """Write frames of one kind: images, frames of videos, or steps of recordings."""
    key = store.key_of(frames[0]) if frames else "name"
    sources = list(dict.fromkeys(names.file_name(b) if key == "name" else b.source for b in frames))
    with writer(path, class_names, metadata, key=key, sources=sources) as append:
        for boxes in frames:
            append(boxes)


def _check_identity(path, kind: str, key: str, sources: Sequence[str]) -> None:
    """Raise InputError for a format that cannot tell frames of these sources apart, and for unsafe names."""
    for source in sources:
        safe_path(source, "name of an image" if key == "name" else "name")
    if kind == "npy" and key != "t_us":
        raise InputError(f"{path}: .npy holds boxes of a recording, by time; write .h5, .json, .npz or .csv")
    if kind == "yolo" and key == "t_us":
        raise InputError(f"{path}: YOLO text holds boxes of images; write a recording as .npy, .h5 or .csv")
    if kind == "pkl" and key == "name":
        names.check_stems(sources, path)
    if kind in ("npy", "txt"):
        clips = sources
        if key == "name":
            clips = {names.clip_and_number(Boxes.none(source=source))[0] for source in sources}
        if len(clips) > 1:
            raise InputError(
                f"{path}: {len(clips)} recordings or clips, and a .{kind} holds one; write .h5, .npz or .csv"
            )


@contextmanager
def _collected(path, kind: str, class_names: tuple[str, ...]) -> Iterator[Append]:
    frames: list[Boxes] = []
    yield frames.append
    if kind in ("npz", "csv"):
        {"npz": npz, "csv": csv}[kind].write(path, frames, class_names)
    else:
        {"pkl": pickle, "txt": mot}[kind].write(path, frames)


@contextmanager
def _results(path, class_names: tuple[str, ...], sources, annotations) -> Iterator[Append]:
    frames: list[Boxes] = []
    if annotations is None:
        ids = names_of.coco_ids(class_names)
        pairs = ", ".join(f"{number} {name}" for number, name in zip(ids[:5], class_names))
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        if class_names:
            logger.info("%s: the category ids are %s%s", path, pairs, more)
        yield frames.append
    else:
        known = coco.read_annotations(annotations)
        by_name = dict(zip(known.class_names, known.category_ids, strict=True))
        missing = [name for name in class_names if name not in by_name]
        if missing:
            raise InputError(
                f"{annotations}: no category {missing[0]!r}; expected the {len(class_names)} of the model"
            )
        ids = [by_name[name] for name in class_names]
        index = names.index_of([boxes.source for boxes in known.frames])
        strangers = [source for source in sources if index(source) is None]
        if sources and len(strangers) == len(sources):
            raise InputError(
                f"{annotations}: none of the {len(sources)} images, such as {strangers[0]}, is in it"
            )
        if strangers:
            logger.warning(
                "%s: %d images, such as %s, are not in it; they are named by their paths",
                annotations, len(strangers), strangers[0],
            )  # fmt: skip

        def append(boxes: Boxes) -> None:
            position = index(names.file_name(boxes))
            image_id = None if position is None else known.frames[position].image_id
            frames.append(replace(boxes, image_id=image_id))

        yield append
    coco.write_results(path, frames, class_names, ids)


def map_clips(
    sources: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    function: Callable[[list[Boxes]], Iterable[Boxes]],
    rule: str,
) -> None:
    """Join the clips of detections files (.h5) into `out`, with `function` applied to the frames of each.

    `function` sees a clip without its frames without boxes, as a released pickle holds it; `out` has all
    frames again. `rule` is kept in the metadata.
    """
    with ExitStack() as stack:
        writer = None
        for source in sources:
            reader = stack.enter_context(store.read(source))
            if writer is None:
                metadata = {**reader.metadata, "rule": rule}
                writer = stack.enter_context(store.create(out, reader.class_names, reader.key, metadata))
            for name in reader.names:
                frames = reader.frames(name)
                result = {
                    names.file_name(boxes): boxes
                    for boxes in function([boxes for boxes in frames if len(boxes)])
                }
                writer.add_clip(name)
                for boxes in frames:
                    nothing = boxes.take(slice(0))
                    writer.append(result.get(names.file_name(boxes), nothing), name)


_SUFFIXES = {
    ".h5": "h5",
    ".hdf5": "h5",
    ".npy": "npy",
    ".json": "json",
    ".pkl": "pkl",
    ".npz": "npz",
    ".txt": "txt",
    ".csv": "csv",
    "": "yolo",
}
