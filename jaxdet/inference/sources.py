"""Recordings by their path: opened, cut, fitted to the model's sensor, predicted."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet.data.events import filters, recordings, sequences
from jaxdet.data.events import fit as fits
from jaxdet.data.events.filters import EventFilter, Filters
from jaxdet.data.events.fit import Fit, View
from jaxdet.data.events.recordings import Recording
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError
from jaxdet.formats import npy
from jaxdet.inference import recordings as on_recordings
from jaxdet.inference.events import Predictor, StepBoxes
from jaxdet.structs import ReadReport

logger = logging.getLogger(__name__)

_SORTED = "events earlier than the one before, sorted"


class FittedRecording:
    """A DAT or RAW file or a prepared folder, on a model's sensor of `size` (height, width).

    `fit` maps its pixels; `report` counts, after a pass over the events, what was left out. Raises InputError
    for a file that is not a recording, and for a view that does not fit it.
    """

    def __init__(self, path: Path, size: tuple[int, int], view: View = View()):  # noqa: B008   (immutable)
        if not path.exists():
            raise InputError(f"{path}: no such file; expected a recording (.dat, .raw) or a prepared folder")
        self.path, self.view, self.report = path, view, ReadReport()
        self.name = npy.recording_name(path)
        self.recording = recordings.open_recording(path) if path.is_dir() else None
        self._stream = recordings.open_events(path, view.sensor)
        height, width = self._stream.height, self._stream.width
        self._stated = height is not None and width is not None
        camera = (height, width) if height is not None and width is not None else fits.implied(size, view)
        try:
            self.fit: Fit = fits.choose(view.fit, camera, size, view.region, view.mounting)
            EventFilter(view.filters.check(), camera)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        self._filters: Filters | None = None  # with the hot pixels that were found
        if not self.fit.is_identity:
            logger.info("%s: %s", path, self.fit.line())
        _check_part(view, str(path))

    @property
    def whole(self) -> Recording | None:
        """The prepared recording, if it is seen as it is."""
        plain = View(self.view.fit, self.view.region, sensor=self.view.sensor)
        return self.recording if self.fit.is_identity and self.view == plain else None

    @property
    def origin_us(self) -> int | None:
        """Start of the first step where it is not the first event's."""
        if self.recording is None or self.view.start_us is not None:
            return None
        return self.recording.start_us

    def chunks(self) -> Iterator[EventChunk]:
        """Events of the view, in the camera's pixels and clock, in order of time."""
        if self._filters is None:
            self._filters = _with_found(self.view.filters, self._part(ReadReport()), self.fit, str(self.path))
        self.report.clear()
        passing = EventFilter(self._filters, self.fit.camera)
        for chunk in self._part(self.report):
            yield passing(chunk, self.report)
        self.report.merge(self._stream.report)

    def _part(self, report: ReadReport) -> Iterator[EventChunk]:
        """Events of the view before its filters."""
        for chunk in self._stream.ordered():
            if len(chunk.t_us) and self.view.end_us is not None and chunk.t_us[0] >= self.view.end_us:
                break
            chunk = _between(chunk, self.view.start_us, self.view.end_us)
            if not self._stated:
                self._check(chunk)
            yield self.fit.kept(chunk, report)

    def _check(self, chunk: EventChunk) -> None:
        """Refuse events that show that the size, which the file does not state, was a wrong guess."""
        height, width = self.fit.camera
        if self.view.region is None and len(chunk.x) and (chunk.x.max() >= width or chunk.y.max() >= height):
            raise InputError(
                f"{self.path}: an event in column {chunk.x.max()} or row {chunk.y.max()}, the file states no "
                f"size and the model sees {width}x{height}; give the camera's as --sensor=WIDTHxHEIGHT"
            )


class FittedArrays:
    """Events in memory, seen as a `FittedRecording` is; `read` counts what was converted in reading them."""

    whole, origin_us, name, path = None, None, "", "events"

    def __init__(self, events: EventChunk, fit: Fit, view: View, read: ReadReport):
        self.fit, self.view, self.report, self._read = fit, view, ReadReport(), read
        _check_part(view, self.path)
        late = int((np.diff(events.t_us) < 0).sum())
        if late:
            events = events.take(np.argsort(events.t_us, kind="stable"))
            read.note(_SORTED, late)
        self._events = events

    def chunks(self) -> Iterator[EventChunk]:
        """The events of the view."""
        self.report.clear()
        self.report.merge(self._read)
        part = _between(self._events, self.view.start_us, self.view.end_us)
        chosen = self.view.filters.check()
        chosen = _with_found(chosen, [self.fit.kept(part, ReadReport())], self.fit, self.path)
        passing = EventFilter(chosen, self.fit.camera)
        yield passing(self.fit.kept(part, self.report), self.report)


def paths(source: Any) -> Iterator[Path]:
    """Paths of recordings, one after the other; InputError for anything else."""
    expected = "expected paths of recordings, or arrays t_us, x, y and polarity"
    if isinstance(source, (bytes, bytearray)) or not isinstance(source, Iterable):
        raise InputError(f"events of type {type(source).__name__}; {expected}")
    for item in source:
        if not isinstance(item, (str, os.PathLike)):
            raise InputError(f"an item of type {type(item).__name__}; {expected}")
        yield Path(item)


def _check_part(view: View, name: str) -> None:
    if view.start_us is not None and view.end_us is not None and view.start_us >= view.end_us:
        raise InputError(f"{name}: a part from {view.start_us} to {view.end_us} us holds nothing")


def _with_found(chosen: Filters, chunks: Iterable[EventChunk], fit: Fit, name: str) -> Filters:
    """Filters with the names of hot pixels, which are looked for if they are to be found."""
    if not chosen.must_look:
        return chosen
    found = filters.find_hot(chunks, fit.camera)
    listed = ",".join(f"{x}:{y}" for x, y in found) or "none"
    logger.info("%s: hot pixels found: %s", name, listed)
    return chosen._replace(hot_pixels=found)


def predict(
    predictor: Predictor, source: FittedRecording | FittedArrays, event_buckets: Sequence[int]
) -> Iterator[StepBoxes]:
    """Boxes after every step of a recording, in the pixels and the clock of its camera.

    What was left out is logged at the end.
    """
    if source.whole is not None:
        yield from on_recordings.predict(predictor, [source.whole], event_buckets, report=source.report)
    else:
        yield from _predict_part(predictor, source, event_buckets)
    if source.report:
        logger.info("%s", source.report.line(str(source.path)))


def _predict_part(
    predictor: Predictor, source: FittedRecording | FittedArrays, event_buckets: Sequence[int]
) -> Iterator[StepBoxes]:
    gap_s = source.view.max_gap_s
    gap_us = None if gap_s is None else round(gap_s * 1e6)
    step_us = predictor.geometry.step_us
    span_us = on_recordings.whole_cycles(predictor, on_recordings.FULL_STEPS) * step_us
    ahead = sequences.of_chunks(source.chunks(), span_us, step_us, source.origin_us, gap_us)
    counts = np.array([len(segment.events.t_us) for segment in ahead], np.int64)
    if not counts.sum() and (source.view.start_us, source.view.end_us) != (None, None):
        first, last = source.view.start_us, source.view.end_us
        part = " ".join(
            f"{word} {t_us} us" for word, t_us in (("from", first), ("before", last)) if t_us is not None
        )
        raise InputError(
            f"{source.path}: no events {part}; times are of the camera's clock, which `jaxdet info` shows"
        )
    on_recordings.warn_of_overflow(counts, event_buckets, span_us // 1000, str(source.path))
    yield from on_recordings.predict_stream(
        predictor,
        source.chunks(),
        event_buckets,
        source=source.name,
        fit=source.fit,
        origin_us=source.origin_us,
        max_gap_us=gap_us,
        report=source.report,
    )


def _between(chunk: EventChunk, start_us: int | None, end_us: int | None) -> EventChunk:
    if start_us is None and end_us is None:
        return chunk
    low = 0 if start_us is None else int(np.searchsorted(chunk.t_us, start_us))
    high = len(chunk.t_us) if end_us is None else int(np.searchsorted(chunk.t_us, end_us))
    return chunk.take(slice(low, high))
