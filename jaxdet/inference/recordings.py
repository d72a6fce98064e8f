"""Inference on recordings: boxes after every step, or batches with slots only at the steps wanted."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxdet.data.events import fit as fits
from jaxdet.data.events import packing, sequences
from jaxdet.data.events.fit import Fit
from jaxdet.data.events.streams import EventChunk
from jaxdet.inference.events import Predictor, StepBoxes
from jaxdet.structs import Batch, ReadReport

logger = logging.getLogger(__name__)

_BEYOND = "events beyond the largest of data.event_buckets"
FULL_STEPS = 18  # steps per segment when boxes are wanted at all of them: it bounds the memory of features


def predict(
    predictor: Predictor,
    recordings: Iterable[Any],
    event_buckets: Sequence[int],
    num_steps: int = FULL_STEPS,
    report: ReadReport | None = None,
) -> Iterator[StepBoxes]:
    """Boxes after every step of recordings; with one lane, one recording after the other.

    `event_buckets` are the padded numbers of events per segment; `num_steps`, the steps per segment, is
    rounded up to whole firing cycles. Times are those of the camera's clock. `report` counts, at the end, the
    events that the largest bucket did not hold, which are logged without it.
    """
    recordings = list(recordings)
    num_steps = whole_cycles(predictor, num_steps)
    found = batches(predictor, recordings, event_buckets, num_steps, report=report)
    for step in predictor.every_slot(found, [recording.name for recording in recordings]):
        time_us = step.boxes.time_us + recordings[step.sequence].start_us
        yield step._replace(boxes=replace(step.boxes, time_us=time_us))


def predict_stream(
    predictor: Predictor,
    chunks: Iterable[Any],
    event_buckets: Sequence[int],
    num_steps: int = FULL_STEPS,
    source: str = "",
    fit: Fit | None = None,
    origin_us: int | None = None,
    max_gap_us: int | None = None,
    report: ReadReport | None = None,
) -> Iterator[StepBoxes]:
    """Boxes after every step of a stream of events, given as chunks (t_us, x, y, polarity) in order of time.

    `source` names the stream in the boxes. Events are in the camera's pixels, all of them in the region of
    `fit`, and boxes come back in the same. `origin_us`, `max_gap_us` and `report` are those of
    `sequences.of_chunks`, `report` that of `predict` as well; other arguments as there.
    """
    num_steps, step_us = whole_cycles(predictor, num_steps), predictor.geometry.step_us
    fit = fits.choose(None, predictor.geometry.size, predictor.geometry.size) if fit is None else fit
    recent = _Recent(chunks)
    seen = chunks if fit.is_identity else (fit.upright(EventChunk(*chunk)) for chunk in recent)
    segments = sequences.of_chunks(seen, num_steps * step_us, step_us, origin_us, max_gap_us, report)
    found = _stream([segments], predictor, event_buckets, num_steps, None, None, fit.pixels(), report)
    for step in predictor.every_slot(found, [source], fit.real):
        if not fit.is_identity:
            end_us = step.boxes.time_us or 0
            events = recent.between(end_us - step_us, end_us)
            step = step._replace(boxes=fit.boxes(step.boxes), events=events)
        yield step


class _Recent:
    """Chunks on their way to the detector, kept until their step is drawn: the fit cannot be undone."""

    def __init__(self, chunks: Iterable[Any]):
        self._chunks, self._kept = chunks, deque()

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._chunks:
            self._kept.append(chunk)
            yield chunk

    def between(self, start_us: int, end_us: int) -> tuple[np.ndarray, ...]:
        """Events (x, y, polarity) with start_us <= t < end_us; the calls go forward in time."""
        while self._kept and (not len(self._kept[0][0]) or self._kept[0][0][-1] < start_us):
            self._kept.popleft()
        parts = []
        for t_us, *columns in self._kept:
            if len(t_us) and t_us[0] >= end_us:
                break
            rows = slice(*np.searchsorted(t_us, (start_us, end_us)))
            parts.append([np.asarray(column)[rows] for column in columns])
        if not parts:
            return (np.zeros(0, np.int16),) * 3
        return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def warn_of_overflow(counts: np.ndarray, event_buckets: Sequence[int], span_ms: int, name: str = "") -> None:
    """Say, before the first step, which events the largest bucket will not hold."""
    if line := packing.overflow(counts, event_buckets, span_ms):
        logger.warning("%s%s", f"{name}: " if name else "", line)


def whole_cycles(predictor: Predictor, num_steps: int) -> int:
    """`num_steps` rounded up to whole firing cycles, as every segment must have."""
    return -(-num_steps // predictor.cycle) * predictor.cycle


def ends(recording: Any, step_us: int) -> np.ndarray:
    """End times, us from its start, of the steps that cover a recording."""
    return step_us * np.arange(1, -(-1000 * recording.duration_ms // step_us) + 1)


def batches(
    predictor: Predictor,
    recordings: Sequence[Any],
    event_buckets: Sequence[int],
    num_steps: int,
    wanted: sequences.Wanted | None = None,
    report: ReadReport | None = None,
) -> Iterator[Batch]:
    """Segments of `num_steps` steps of all recordings, with slots at the `wanted` steps (None: at all).

    Times count from the start of each recording. `report` as in `predict`.
    """
    step_us, most = predictor.geometry.step_us, num_steps
    if wanted is not None:
        slots = (_most(wanted(i, ends(r, step_us)), num_steps) for i, r in enumerate(recordings))
        most = max(slots, default=1)
    span_ms = num_steps * step_us // 1000
    counts = [r.counts(span_ms) for r in recordings]
    warn_of_overflow(np.concatenate([np.zeros(0, np.int64), *counts]), event_buckets, span_ms)
    segments = (sequences.of_recording(r, num_steps * step_us, step_us) for r in recordings)
    return _stream(segments, predictor, event_buckets, num_steps, max(most, 1), wanted, report=report)


def _most(chosen: np.ndarray, num_steps: int) -> int:
    """Largest number of chosen steps in one segment."""
    padded = np.zeros(-(-len(chosen) // num_steps) * num_steps, bool)
    padded[: len(chosen)] = chosen
    return int(padded.reshape(-1, num_steps).sum(1).max(initial=0))


def _stream(
    segments, predictor, event_buckets, num_steps, max_slots, wanted, pixels=None, report=None
) -> Iterator[Batch]:
    geometry = predictor.geometry
    stream = sequences.SequenceBatches(
        segments,
        num_lanes=predictor.num_lanes,
        segment_us=num_steps * geometry.step_us,
        step_us=geometry.step_us,
        size=geometry.size,
        event_buckets=event_buckets,
        max_slots=max_slots,
        wanted=wanted,
        pixels=pixels,
    )
    yield from stream
    if report is not None:
        report.add(_BEYOND, stream.lost_events)
    elif stream.lost_events:
        logger.warning("left out %d %s", stream.lost_events, _BEYOND)
