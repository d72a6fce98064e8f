"""Pictures of a recording, a video or images with the boxes of several detectors and labels, as one page."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdet import class_names, terminal
from jaxdet.data.datasets import event_sets
from jaxdet.data.events import label_files, recordings, sequences
from jaxdet.data.events.fit import View
from jaxdet.data.events.recordings import Recording
from jaxdet.data.images import decoding, sets
from jaxdet.detections import files
from jaxdet.errors import InputError
from jaxdet.evaluation import box_sets
from jaxdet.evaluation.box_sets import BoxSet, ByTime
from jaxdet.formats import names, npy
from jaxdet.inference.sources import FittedRecording
from jaxdet.inference.streaming import StreamDetector
from jaxdet.structs import Boxes, ReadReport
from jaxdet.viewing import viewer
from jaxdet.viewing.event_pictures import EventPictures
from jaxdet.viewing.viewer import Heading, Moment

logger = logging.getLogger(__name__)

_OF_BOXES = (".h5", ".hdf5", ".npy", ".json", ".pkl", ".npz", ".csv")
_GEN1 = (240, 304)  # height, width of the sensor whose sets have no description
_UNREAD = "images that cannot be read"
_GREY = 40  # of a picture that is not at hand
_LARGEST = 4096  # pixels a side of a picture that is made here
_PICTURES_PER_S = 5.0  # of single images


class Options(NamedTuple):
    """Things that are shown, and how."""

    detections: Sequence[str] = ()  # files of boxes, one a detector
    labels: str | None = None
    classes: tuple[str, ...] = ()  # names for boxes whose files name no classes
    every_ms: int = 50  # of a recording per picture
    most: int = 400  # pictures
    score: float = 0.3  # boxes below are hidden at first
    detector: str = "detector"  # name of the one that runs
    view: View = View()


class _Show(NamedTuple):
    """A page in the making."""

    found: list[BoxSet]
    truth: BoxSet | None
    classes: tuple[str, ...]
    moments: Iterator[Moment]
    rate: float  # pictures a second
    left_out: ReadReport  # of the pictures, complete when the moments end


def write(
    out: str | Path, source: str | Path, options: Options, detector: StreamDetector | None = None
) -> int:
    """Write the page of a recording, a video, images or a file of boxes; return the number of pictures.

    With a `detector` of events the page shows its boxes and the size of its latents as well. What was left
    out while reading is logged and stands on the page. Raises InputError for a source and options that do not
    go together, for files that cannot be read, for boxes of which none belongs to a picture, and, when the
    page is written, for images that could not be read.
    """
    path, report = Path(source), ReadReport()
    if not path.exists():
        raise InputError(f"{path}: no such file; expected a recording, a video, images or boxes")
    _check(options)
    kind = _kind(path)
    if kind == "boxes":
        options = options._replace(detections=[str(path), *options.detections])
        show = _of_boxes(path, options, detector, report)
    elif kind == "images":
        show = _of_images(path, options, detector, report)
    else:
        show = _of_recording(path, options, detector, report)
    left = terminal.track(show.moments, "view", None, "pictures")
    shown = [viewer.as_json(moment) for moment in islice(left, options.most)]
    if not shown:
        raise InputError(f"{path}: nothing to show; expected events or pictures")
    more = next(left, None) is not None
    notes = [f"the first {len(shown)} pictures"] if more else []
    if more:
        logger.info("%s: %s; --most shows more, --start_us another part of a recording", path, notes[0])
    _check_shown(show, shown, more)
    report.merge(show.left_out)
    if report:
        logger.warning("%s", report.line(str(path)))
        notes.append(report.line())
    detectors = tuple(one.name for one in show.found)
    labelled = show.truth is not None
    note = "; ".join(notes)
    viewer.write(
        out, Heading(path.name, show.classes, detectors, show.rate, options.score, note, labelled), shown
    )
    if unread := report.counts[_UNREAD]:
        raise InputError(f"{unread} images could not be read, named above; {out} shows the others")
    return len(shown)


def _check(options: Options) -> None:
    if options.most < 1 or options.every_ms < 1:
        raise InputError(f"--most={options.most} --every_ms={options.every_ms}, expected 1 or more")
    if not 0 <= options.score <= 1:
        raise InputError(f"--score={options.score:g}, expected 0 to 1")


def _check_shown(show: _Show, shown: Sequence[dict[str, Any]], more: bool) -> None:
    """Raise InputError for a file whose boxes are in none of the pictures; log it if there are `more`."""
    counts = [(one, sum(len(m["found"][k]) for m in shown)) for k, one in enumerate(show.found)]
    if show.truth is not None:
        counts.append((show.truth, sum(len(moment["truth"] or ()) for moment in shown)))
    for one, count in counts:
        total = sum(map(len, one.frames))
        if total and not count:
            told = f"{one.name}: none of {total} boxes belongs to one of the {len(shown)} pictures"
            if not more:
                raise InputError(f"{told}; check that the files belong together")
            logger.warning("%s", told)


def _kind(path: Path) -> str:
    """ "events", "boxes" or "images", by content where the suffix does not say it."""
    if path.is_dir():
        return "events" if (path / "info.json").is_file() else "images"
    suffix = path.suffix.lower()
    if suffix in (*names.IMAGE_SUFFIXES, *sets.VIDEO_SUFFIXES):
        return "images"
    if suffix == ".txt" and _is_mot(path):
        return "boxes"
    try:
        recordings.open_events(path)
    except InputError as error:
        if suffix in _OF_BOXES:
            return "boxes"
        if suffix == ".txt" or sets.is_video(path) or sets.has_image_content(path):
            return "images"
        raise InputError(f"{error}; it is no video, image or file of boxes either") from error
    return "events"


def _is_mot(path: Path) -> bool:
    try:
        files.read(path)
    except InputError:
        return False
    return True


def _of_recording(path: Path, options: Options, detector: StreamDetector | None, report: ReadReport) -> _Show:
    stream = recordings.open_events(path, options.view.sensor)
    if stream.height is None or stream.width is None:
        raise InputError(f"{path}: the file states no sensor; give --sensor=WIDTHxHEIGHT")
    camera = (stream.height, stream.width)
    if max(camera) > _LARGEST:
        raise InputError(
            f"{path}: a sensor of {camera[1]}x{camera[0]} pixels, expected at most {_LARGEST} a side; "
            "--sensor=WIDTHxHEIGHT overrules the file"
        )
    source = FittedRecording(path, detector.geometry.size if detector else camera, options.view)
    found = [box_sets.of_recording(box_sets.read(file, report), source.name) for file in options.detections]
    if detector is not None:
        detector.reset(source.origin_us, source.name, source.fit, options.view.filters)
        found.append(BoxSet(options.detector, [], detector.class_names))
    truth = _labels(source, camera, options.labels, report)
    found, truth, classes = box_sets.aligned(found, truth, options.classes)
    moments = _of_events(source, camera, 1000 * options.every_ms, found, truth, detector)
    return _Show(found, truth, classes, moments, 1000 / options.every_ms, source.report)


def _labels(
    source: FittedRecording, camera: tuple[int, int], path: str | None, report: ReadReport
) -> BoxSet | None:
    """Labels of a recording, in the clock of its camera: those of the file, or its own if it is prepared."""
    if path is None:
        recording = source.recording
        if recording is None or not len(recording.labels):
            return None
        frames, _ = npy.frames_of(recording.labels, source.name, str(source.path))
        frames = [replace(boxes, time_us=(boxes.time_us or 0) + recording.start_us) for boxes in frames]
        return BoxSet("labels", frames, _classes_of_set(recording))
    problems: list[str] = []
    parts = label_files.read(label_files.find(path), lambda _: camera, report, problems)
    if problems:
        raise InputError(problems[0])
    own = parts.get(source.name) or (next(iter(parts.values())) if len(parts) == 1 else None)
    if own is None:
        known = ", ".join([*parts][:3])
        raise InputError(f"{path}: labels of {len(parts)} recordings ({known}), none of {source.name}")
    frames = [boxes for part in own for boxes in npy.frames_of(part.rows, source.name, path)[0]]
    return BoxSet("labels", frames, own[0].class_names)


def _classes_of_set(recording: Recording) -> tuple[str, ...]:
    """Classes of the labels of a prepared recording; () if neither its set nor its sensor says them."""
    root = recording.path.resolve().parents[1]
    if (root / event_sets.DESCRIPTION).is_file():
        return tuple(map(str, event_sets.read_description(root)["classes"]))
    return class_names.GEN1 if (recording.height, recording.width) == _GEN1 else ()


def _of_events(
    source: FittedRecording,
    camera: tuple[int, int],
    window_us: int,
    found: Sequence[BoxSet],
    truth: BoxSet | None,
    detector: StreamDetector | None,
) -> Iterator[Moment]:
    """A picture of every window, with the last label in it and the boxes nearest to that.

    Boxes further from the label than half a window are of another picture; without one the last are shown.
    """
    timed, labels = [ByTime(one.frames) for one in found], ByTime(truth.frames if truth else ())
    pictures = EventPictures(camera)
    for segment in sequences.of_chunks(source.chunks(), window_us, window_us):
        end_us = segment.start_us + window_us
        pictures.add(*segment.events)
        maps: dict[str, np.ndarray] = {}
        if detector is not None:
            steps = [*detector.feed(*segment.events), *detector.advance(end_us)]
            timed[-1].add(step.boxes for step in steps)
            maps = {f"memory {i}": _norm(latent) for i, latent in enumerate(detector.latents(), 1)}
        label = labels.within(segment.start_us, end_us)
        if label is None or label.time_us is None:
            boxes = [one.within(segment.start_us, end_us) for one in timed]
        else:
            boxes = [one.nearest(label.time_us, window_us // 2) for one in timed]
        yield _moment(f"{end_us / 1e6:.3f} s", camera, pictures.take(end_us), label, boxes, maps)


def _of_images(path: Path, options: Options, detector: StreamDetector | None, report: ReadReport) -> _Show:
    _check_still(path, detector)
    video = sets.VideoFile(path) if sets.is_video(path) else None
    found, truth, classes = _sets_of_images(options, report)
    if video is not None:
        stem = path.stem
        frames = ((Boxes.none(source=stem, frame=k), lambda p=picture: p) for k, picture in enumerate(video))
    else:
        frames = (
            (Boxes.none(source=item.source, image_id=item.image_id), lambda p=item.path: decoding.read(p))
            for item in sets.open_input(path, report)
        )
    rate = video.frame_rate if video else _PICTURES_PER_S
    left_out = ReadReport()
    return _Show(found, truth, classes, _stills(frames, found, truth, left_out), rate, left_out)


def _of_boxes(path: Path, options: Options, detector: StreamDetector | None, report: ReadReport) -> _Show:
    """Boxes on grey, where no picture is at hand; a frame of the labels, or of the first detector, each."""
    _check_still(path, detector)
    found, truth, classes = _sets_of_images(options, report)
    everything = [*found, truth] if truth else found
    size = _extent(boxes for one in everything for boxes in one.frames)
    shown = everything[-1 if truth else 0].frames
    frames = (
        (boxes, lambda s=boxes.image_size or size: np.full((*s, 3), _GREY, np.uint8)) for boxes in shown
    )
    left_out = ReadReport()
    moments = _stills(frames, found, truth, left_out)
    return _Show(found, truth, classes, moments, _PICTURES_PER_S, left_out)


def _sets_of_images(
    options: Options, report: ReadReport
) -> tuple[list[BoxSet], BoxSet | None, tuple[str, ...]]:
    found = [box_sets.read(file, report) for file in options.detections]
    truth = None if options.labels is None else box_sets.read(options.labels, report, "labels")
    return box_sets.aligned(found, truth, options.classes)


def _check_still(path: Path, detector: StreamDetector | None) -> None:
    if detector is not None:
        raise InputError(
            f"{path}: no recording of events, which --weights is for; of images run `predict --out` first "
            "and give its file as --detections"
        )


def _stills(
    frames: Iterable[tuple[Boxes, Callable[[], np.ndarray]]],
    found: Sequence[BoxSet],
    truth: BoxSet | None,
    report: ReadReport,
) -> Iterator[Moment]:
    """Pictures of frames with their boxes; one that cannot be read is named, counted and left out."""
    finders = [box_sets.finder(one.frames) for one in found]
    labelled = box_sets.finder(truth.frames) if truth else lambda _: None
    for frame, open_picture in frames:
        try:
            picture = open_picture()
        except InputError as error:
            logger.warning("%s", error)
            report.add(_UNREAD)
            continue
        boxes, label = [find(frame) for find in finders], labelled(frame)
        yield _moment(names.file_name(frame), picture.shape, {"picture": picture}, label, boxes, {})


def _moment(
    title: str,
    shape: tuple[int, ...],
    layers: dict[str, np.ndarray],
    truth: Boxes | None,
    found: Sequence[Boxes | None],
    maps: dict[str, np.ndarray],
) -> Moment:
    boxes = [Boxes.none() if one is None else one for one in found]
    hits = [box_sets.hits(one, truth) for one in boxes]
    return Moment(title, (shape[0], shape[1]), layers, truth, boxes, hits, maps)


def _norm(latent: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(latent.astype(np.float32)).sum(-1))


def _extent(frames: Iterable[Boxes]) -> tuple[int, int]:
    """Height and width that hold all boxes, up to a limit."""
    corners = [boxes.xyxy[:, 2:].max(0) for boxes in frames if len(boxes)]
    if not corners:
        raise InputError("no boxes to show; expected at least one")
    width, height = np.clip(np.ceil(np.max(corners, 0)).astype(int) + 2, 2, _LARGEST).tolist()
    return height, width
