"""Boxes read from and written to a file of any format, by its suffix.

`FORMATS`, at the end, is the table of formats; `formats.HOLDS` says what each keeps.

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
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdet import class_names as names_of
from jaxdet.detections import store
from jaxdet.errors import InputError
from jaxdet.files import finished, safe_path
from jaxdet.formats import HOLDS, BoxFile, coco, csv, mot, names, npy, npz, pickle, yolo
from jaxdet.structs import Boxes, ReadReport

logger = logging.getLogger(__name__)

Append = Callable[[Boxes], None]


class Request(NamedTuple):
    """The arguments of `writer`."""

    path: str | os.PathLike
    class_names: tuple[str, ...]
    metadata: dict[str, Any] | None
    key: str
    sources: Sequence[str]
    annotations: str | os.PathLike | None


class Format(NamedTuple):
    """Suffixes, reader and writer of a format; `opened` yields what takes the boxes of a frame."""

    suffixes: tuple[str, ...]
    read: Callable[[Path, coco.Annotations | None], BoxFile]
    opened: Callable[[Request], AbstractContextManager[Append]]


def format_of(path: str | os.PathLike) -> str:
    """The format's name in `formats.HOLDS`. Raises InputError for a suffix of no format."""
    suffix = Path(path).suffix.lower()
    names_by_suffix = {suffix: name for name, row in FORMATS.items() for suffix in row.suffixes}
    if suffix not in names_by_suffix or (Path(path).is_dir() and suffix):
        known = ", ".join(filter(None, names_by_suffix))
        raise InputError(
            f"{path}: suffix {suffix or 'missing'}; expected one of {known}, or a folder for YOLO text"
        )
    return names_by_suffix[suffix]


def read(
    path: str | os.PathLike,
    annotations: coco.Annotations | None = None,
    score_scale: float | None = None,
) -> BoxFile:
    """Read the boxes of a file or folder.

    `annotations` give COCO results the names of their images and classes, and YOLO text the sizes of its
    images. `score_scale` divides the scores, which then must lie in [0, 1]; None takes them as they are.
    Raises InputError for unreadable files, numbers that are not finite and frames that appear twice.
    """
    path = Path(path)
    kind = format_of(path)
    if kind != "yolo" and not path.is_file():
        raise InputError(f"{path}: no such file; expected boxes")
    if kind == "txt":
        found = mot.read(path, score_scale)  # names the line of a score
    else:
        found = FORMATS[kind].read(path, annotations)
        if score_scale is not None and found.has_scores:
            found = found._replace(frames=[_scaled(boxes, score_scale, path) for boxes in found.frames])
    _check(found.frames, path)
    return found


def _scaled(boxes: Boxes, scale: float, path: Path) -> Boxes:
    scores = boxes.scores if scale == 1 else boxes.scores / scale
    wrong = scores[(scores < 0) | (scores > 1)]
    if len(wrong):
        raise InputError(
            f"{path}: {names.path_name(boxes)} has a score of {wrong[0]:g}, expected 0 to 1; "
            "--score_scale=N divides the scores by N"
        )
    return boxes if scale == 1 else replace(boxes, scores=scores)


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


def _read_store(path: Path, annotations: coco.Annotations | None) -> BoxFile:
    with store.read(path) as reader:
        return BoxFile(list(reader), reader.class_names, True, ReadReport(), reader.metadata)


def _read_folder(path: Path, annotations: coco.Annotations | None) -> BoxFile:
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected YOLO text, or .npy files of recordings")
    if tables := finished(path.glob("*.npy"), path):
        parts = [npy.read(table) for table in tables]
        frames = [boxes for part in parts for boxes in part.frames]
        return BoxFile(frames, (), all(part.has_scores for part in parts), ReadReport())
    texts = finished(path.rglob("*.txt"), path)
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
    request = Request(path, tuple(class_names), metadata, key, sources, annotations)
    with FORMATS[kind].opened(request) as append:

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


def _check_identity(path: str | os.PathLike, kind: str, key: str, sources: Sequence[str]) -> None:
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
def _store(request: Request) -> Iterator[Append]:
    with store.create(request.path, request.class_names, request.key, request.metadata) as opened:
        for source in () if request.key == "name" else request.sources:
            opened.add_clip(source)
        yield opened.append


@contextmanager
def _folder(request: Request) -> Iterator[Append]:
    def append(boxes: Boxes) -> None:
        yolo.write_text(request.path, boxes)

    yield append


def whole(suffix: str, read: Callable[..., BoxFile], write: Callable[..., None]) -> Format:
    """A format of `read(path)` and `write(path, frames)`, which takes all frames at once.

    `write` gets the class names as well where `formats.HOLDS` says that the format keeps them.
    """

    @contextmanager
    def opened(request: Request) -> Iterator[Append]:
        frames: list[Boxes] = []
        yield frames.append
        named = HOLDS[format_of(request.path)].class_names
        write(request.path, frames, *([request.class_names] if named else []))

    return Format((suffix,), lambda path, annotations: read(path), opened)


@contextmanager
def _results(request: Request) -> Iterator[Append]:
    path, class_names, _, _, sources, annotations = request
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


FORMATS = {
    "h5": Format((".h5", ".hdf5"), _read_store, _store),
    "npy": Format((".npy",), lambda path, _: npy.read(path), lambda request: npy.writer(request.path)),
    "json": Format((".json",), coco.read_results, _results),
    "pkl": whole(".pkl", pickle.read, pickle.write),
    "npz": whole(".npz", npz.read, npz.write),
    "txt": whole(".txt", mot.read, mot.write),
    "csv": whole(".csv", csv.read, csv.write),
    "yolo": Format(("",), _read_folder, _folder),
}
