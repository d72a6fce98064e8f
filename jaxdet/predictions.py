"""Boxes of a detector, written and drawn: of images and videos, of one recording, of the recordings of a
split."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdet import terminal
from jaxdet.data.events import fit as fits
from jaxdet.data.events import packets, recordings
from jaxdet.data.events.fit import View
from jaxdet.data.images import cameras, decoding, sets
from jaxdet.detections import files
from jaxdet.detections import recordings as split_files
from jaxdet.errors import InputError
from jaxdet.formats import TRACKED
from jaxdet.formats import names as frame_names
from jaxdet.inference import live, sources
from jaxdet.inference import recordings as on_recordings
from jaxdet.inference.events import Predictor, StepBoxes
from jaxdet.inference.images import ImageResult, ItemPredictor
from jaxdet.inference.streaming import StreamDetector
from jaxdet.postprocess import seqnms
from jaxdet.postprocess.seqnms import SeqNMSOptions
from jaxdet.postprocess.tracking import Trackers, TrackOptions
from jaxdet.structs import Boxes, ReadReport
from jaxdet.viewing import films
from jaxdet.viewing.live_page import EventsOnPage, LivePage, StillsOnPage

logger = logging.getLogger(__name__)

_QUEUE_EVENTS = 4_000_000  # of a live camera, about 100 MB
_PICTURES_PER_S = 5  # of a film made of single images


class Rendering(NamedTuple):
    """Pictures or a film of the boxes."""

    path: str | None  # None: nothing is drawn
    min_score: float = 0.3  # boxes below are not drawn
    stride: int = 10  # steps of a recording per picture
    page: LivePage | None = None  # on which boxes are shown as they come


@contextmanager
def with_page(
    rendering: Rendering, title: str, class_names: Sequence[str], port: int | None
) -> Iterator[Rendering]:
    """Yield the rendering with a page of this computer on `port`, which ends with the block; None: without.

    Raises InputError if the port is taken; 0 is any free one.
    """
    if port is None:
        yield rendering
        return
    with LivePage(title, class_names, rendering.min_score, port) as page:
        yield rendering._replace(page=page)


class Smoothing(NamedTuple):
    """Steps between the boxes of single frames and those that are written."""

    seqnms: SeqNMSOptions | None = None
    tracks: TrackOptions | None = None


_FRAME_US = 1e6 / 30  # what a frame is to the tracks of recordings


def of_images(
    predictor: ItemPredictor,
    source: str | Path,
    out: str | None,
    rendering: Rendering,
    metadata: dict[str, Any],
    annotations: str | None = None,
    smoothing: Smoothing | None = None,
    max_frames: int = 0,
) -> ReadReport:
    """Predict an image, a folder, a list, a video or a camera; InputError at the end if part was unreadable.

    Return what was left out or converted while reading, which is also said in a line. Boxes go to `out` by
    its suffix; COCO results take the ids of `annotations`, where given. `max_frames` ends a camera or stream,
    which otherwise runs until it is interrupted.
    """
    names, smoothing = predictor.class_names, smoothing or Smoothing()
    live_input = cameras.is_live(source)
    if live_input and smoothing.seqnms:
        raise InputError(f"{source}: --seqnms needs all frames; predict a live source without it")
    _check_tracks(out, smoothing)
    video = cameras.LiveVideo(str(source), max_frames) if live_input else _video(source)
    report, metadata = ReadReport(), dict(metadata)
    items = [] if video else _in_order(sets.open_input(source, report), smoothing)
    if report:
        logger.warning("%s", report.line(str(source)))
    with ExitStack() as stack:
        write = None
        if out:
            key = "frame" if video else "name"
            known = [video.path.stem] if video else [item.source for item in items]
            opened = files.writer(out, names, metadata, key=key, sources=known, annotations=annotations)
            write = stack.enter_context(opened)
        draws = _pictures(stack, rendering, names, video)
        keep = bool(draws) and not smoothing.seqnms
        found = predictor.video(video) if video else predictor.items(items, keep=keep)
        num_images = num_boxes = 0
        pairs = _smoothed(found, smoothing, source, items, bool(draws))
        for boxes, image in terminal.track(pairs, "predict", None if video else len(items), "images"):
            if write is not None:
                write(boxes)
            if image is not None:
                for draw in draws:
                    draw(image, boxes)
            num_images, num_boxes = num_images + 1, num_boxes + len(boxes)
        report.merge(predictor.report)
        _store(metadata, report)
    if predictor.report:
        logger.warning("%s", predictor.report.line(str(source)))
    logger.info("%d boxes in %d images", num_boxes, num_images)
    if predictor.num_skipped:
        raise InputError(
            f"{predictor.num_skipped} of {len(items)} images could not be read, named above; the rest is done"
        )
    if video and video.cut_short:
        raise InputError(
            f"{source}: the file is cut short; the {num_images} frames that could be decoded are done"
        )
    return report


def _store(metadata: dict[str, Any], report: ReadReport) -> None:
    """Note in the metadata of a file, before it is closed, what was left out or converted for it."""
    for name, counted in (("left_out", report.counts), ("converted", report.notes)):
        if counted:
            metadata[name] = dict(counted)


def _pictures(
    stack: ExitStack,
    rendering: Rendering,
    class_names: Sequence[str],
    video: sets.VideoFile | cameras.LiveVideo | None,
) -> list[Callable[[np.ndarray, Boxes], None]]:
    """Page and film of `rendering`, which take an image and its boxes; `stack` closes them."""
    draws: list[Callable[[np.ndarray, Boxes], None]] = []
    if rendering.page:
        draws.append(StillsOnPage(rendering.page).add)
    if rendering.path:
        fps = video.frame_rate if video else _PICTURES_PER_S
        film = films.of_images(rendering.path, class_names, fps, rendering.min_score)
        draws.append(stack.enter_context(film))
    return draws


def _video(source: str | Path) -> sets.VideoFile | None:
    return sets.VideoFile(source) if sets.is_video(source) else None


def _check_tracks(out: str | None, smoothing: Smoothing) -> None:
    if out and smoothing.tracks and files.format_of(out) not in TRACKED:
        raise InputError(f"{out}: this format holds no tracks; write .txt (MOT), .csv, .json, .npz or .npy")


def _in_order(items: list[sets.ImageItem], smoothing: Smoothing) -> list[sets.ImageItem]:
    """The images by clip and number where their time matters."""
    if smoothing == Smoothing():
        return items
    return sorted(items, key=lambda item: frame_names.clip_and_number(Boxes.none(source=item.source)))


def _smoothed(
    found: Iterable[ImageResult],
    smoothing: Smoothing,
    source: str | Path,
    items: Sequence[sets.ImageItem],
    with_images: bool,
) -> Iterator[tuple[Boxes, np.ndarray | None]]:
    """Boxes and images after Seq-NMS, which needs the boxes of all frames first, and with their tracks."""
    if smoothing.seqnms is None:
        pairs = ((result.boxes, result.image) for result in found)
    else:
        rescored = seqnms.rescore([result.boxes for result in found], smoothing.seqnms)
        pairs = zip(rescored, _images_again(rescored, source, items, with_images))
    trackers = Trackers(smoothing.tracks)
    for boxes, image in pairs:
        if smoothing.tracks is not None:
            boxes = trackers(boxes, *frame_names.clip_and_number(boxes))
        yield boxes, image


def _images_again(
    frames: Sequence[Boxes], source: str | Path, items: Sequence[sets.ImageItem], wanted: bool
) -> Iterator[np.ndarray | None]:
    """The images of the frames, read a second time so that not all of them are kept in memory."""
    if not wanted:
        yield from [None] * len(frames)
    elif not items:
        yield from sets.VideoFile(source)
    else:
        paths = {item.source: item.path for item in items}
        yield from (decoding.read(paths[boxes.source]) for boxes in frames)


def of_recording(
    predictor: Predictor,
    source: sources.FittedRecording,
    event_buckets: Sequence[int],
    out: str | None,
    rendering: Rendering,
    metadata: dict[str, Any],
    tracks: TrackOptions | None = None,
) -> ReadReport:
    """Predict one recording after every step; boxes go to `out` by its suffix, with the fit in `metadata`.

    With `tracks` the boxes get tracks. Return what was left out while reading.
    """
    _check_tracks(out, Smoothing(tracks=tracks))
    names, step_us = predictor.class_names, predictor.geometry.step_us
    metadata = {**metadata, "fit": source.fit.as_dict()}
    with ExitStack() as stack:
        writers: list[Callable[[StepBoxes], None]] = []
        if out:
            write = stack.enter_context(files.writer(out, names, metadata, key="t_us", sources=[source.name]))
            writers.append(lambda step: write(step.boxes))
        if rendering.path:
            film = films.of_events(
                rendering.path, source.fit.camera, names, step_us, rendering.stride, rendering.min_score
            )
            draw = stack.enter_context(film)
            writers.append(lambda step: draw(step.events, step.boxes))
        if rendering.page:
            page = EventsOnPage(rendering.page, source.fit.camera, rendering.stride)
            writers.append(lambda step: page.add(step.events, step.boxes))
        steps = sources.predict(predictor, source, event_buckets)
        _deliver(steps if tracks is None else _tracked(steps, tracks), writers)
        _store(metadata, source.report)
    return source.report


def _tracked(steps: Iterable[StepBoxes], options: TrackOptions) -> Iterator[StepBoxes]:
    trackers = Trackers(options)
    for step in steps:
        assert step.boxes.time_us is not None
        now = step.boxes.time_us / _FRAME_US
        yield step._replace(boxes=trackers(step.boxes, step.boxes.source, now))


def of_live(
    detector: StreamDetector,
    address: str,
    view: View,
    out: str | None,
    metadata: dict[str, Any],
    rendering: Rendering = Rendering(None),  # noqa: B008   (immutable)
) -> None:
    """Predict a live camera (see `data.events.packets`) until it ends or the user interrupts.

    Boxes go to `out` by its suffix, or, for "-", to standard output as a line of JSON a step, and to the
    page of `rendering`. Every program is compiled before the first event; statistics are logged now and then.
    """
    pages: list[EventsOnPage] = []
    detector.compile(real_events=view.fit == "scale")
    names, size = detector.class_names, detector.geometry.size
    delay_us = detector.limits.max_delay_us
    if delay_us is not None:
        delay_us += detector.geometry.step_us  # what is older is of steps that would be skipped
    queue = live.Queue(packets.receive(address), _QUEUE_EVENTS, delay_us)

    def begin(packet: packets.Packet) -> None:
        camera = view.sensor or packet.camera
        fit = fits.choose(view.fit, camera or fits.implied(size, view), size, view.region, view.mounting)
        x, y = packet.events.x, packet.events.y
        if camera is None and len(x) and (x.max() >= fit.camera[1] or y.max() >= fit.camera[0]):
            raise InputError(
                f"{address}: an event in column {x.max()} or row {y.max()} of a camera of unknown size, "
                f"the model sees {size[1]}x{size[0]}; give --sensor=WIDTHxHEIGHT"
            )
        logger.info("%s: %s", address, fit.line())
        detector.reset(None, "live", fit, view.filters)
        if rendering.page:
            pages.append(EventsOnPage(rendering.page, fit.camera, rendering.stride))

    def report(numbers: dict[str, float]) -> None:
        numbers = {**numbers, **queue.report.counts}
        metadata["statistics"] = numbers
        logger.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in numbers.items()))

    logger.info("waiting for %s", address)
    with ExitStack() as stack:
        writes: list[Callable[[Boxes], None]] = [_print_line] if out == "-" else []
        if out and out != "-":
            opened = files.writer(out, names, metadata, key="t_us", sources=["live"])
            writes.append(stack.enter_context(opened))
        try:
            for step in live.predict(detector, queue, begin, report):
                for write in writes:
                    write(step.boxes)
                for page in pages:
                    page.add(step.events, step.boxes)
        except KeyboardInterrupt:
            report(detector.statistics())
            logger.info("interrupted; the boxes so far are kept")


def _print_line(boxes: Boxes) -> None:
    line = {
        "t_us": boxes.time_us,
        "boxes": boxes.xyxy.tolist(),
        "scores": boxes.scores.tolist(),
        "classes": list(boxes.names),
    }
    print(json.dumps(line), flush=True)


def of_split(
    predictor: Predictor,
    paths: Sequence[Path],
    event_buckets: Sequence[int],
    folder: str,
    store_name: str,
    metadata: dict[str, Any],
) -> ReadReport:
    """Predict prepared recordings; `folder` gets a `.npy` of each and the detections file `store_name` of
    all. Return what was left out."""
    report, metadata = ReadReport(), dict(metadata)
    chosen, step_us = [recordings.open_recording(path) for path in paths], predictor.geometry.step_us
    ends_us = [(r.name, r.start_us + -(-1000 * r.duration_ms // step_us) * step_us) for r in chosen]
    with split_files.writer(folder, ends_us, store_name, predictor.class_names, metadata) as write:
        steps = on_recordings.predict(predictor, chosen, event_buckets, report=report)
        _deliver(steps, [lambda step: write(step.boxes)])
        _store(metadata, report)
    if report:
        logger.warning("%s", report.line(folder))
    return report


def _deliver(steps: Iterable[StepBoxes], writers: Sequence[Callable[[StepBoxes], None]]) -> None:
    """Hand every step to `writers`, with its progress."""
    began = time.perf_counter()
    num_steps = num_boxes = 0
    for step in terminal.track(steps, "predict", None, "steps"):
        for write in writers:
            write(step)
        num_steps, num_boxes = num_steps + 1, num_boxes + len(step.boxes)
    rate = num_steps / (time.perf_counter() - began)
    logger.info("%d steps, %d boxes, %.0f steps/s (compilation included)", num_steps, num_boxes, rate)
