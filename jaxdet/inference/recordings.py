"""A detector on recordings: boxes after every step, or the batches of segments from which a protocol takes what it needs."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxdet.data.events import sequences
from jaxdet.inference.events import Predictor, StepBoxes
from jaxdet.structs import Batch

logger = logging.getLogger(__name__)

FULL_STEPS = 18  # steps a segment where every one is looked at: all their features are in memory at once


def predict(
    predictor: Predictor,
    recordings: Iterable[Any],
    event_buckets: Sequence[int],
    num_steps: int = FULL_STEPS,
) -> Iterator[StepBoxes]:
    """Boxes after every step of recordings, one after the other where there is one lane."""
    recordings = list(recordings)
    found = batches(predictor, recordings, event_buckets, whole_cycles(predictor, num_steps))
    return predictor.every_slot(found, [recording.name for recording in recordings])


def predict_stream(
    predictor: Predictor,
    chunks: Iterable[Any],
    event_buckets: Sequence[int],
    num_steps: int = FULL_STEPS,
    source: str = "",
) -> Iterator[StepBoxes]:
    """Boxes after every step of the events (t_us, x, y, polarity) of `source`, in chunks in order of time."""
    num_steps, step_us = whole_cycles(predictor, num_steps), predictor.geometry.step_us
    segments = sequences.of_chunks(chunks, num_steps * step_us, step_us)
    found = _stream([segments], predictor, event_buckets, num_steps, None, None)
    return predictor.every_slot(found, [source])


def whole_cycles(predictor: Predictor, num_steps: int) -> int:
    """The next number of steps after which the firing pattern starts anew, as every segment assumes."""
    return -(-num_steps // predictor.cycle) * predictor.cycle


def ends(recording: Any, step_us: int) -> np.ndarray:
    """End times, us, of the steps that cover a recording."""
    return step_us * np.arange(1, -(-1000 * recording.duration_ms // step_us) + 1)


def batches(
    predictor: Predictor,
    recordings: Sequence[Any],
    event_buckets: Sequence[int],
    num_steps: int,
    wanted: sequences.Wanted | None = None,
) -> Iterator[Batch]:
    """Segments of `num_steps` steps of all recordings, with slots for the steps that are `wanted`, or for all."""
    step_us, most = predictor.geometry.step_us, num_steps
    if wanted is not None:
        slots = (_most(wanted(i, ends(r, step_us)), num_steps) for i, r in enumerate(recordings))
        most = max(slots, default=1)
    segments = (sequences.of_recording(r, num_steps * step_us, step_us) for r in recordings)
    return _stream(segments, predictor, event_buckets, num_steps, max(most, 1), wanted)


def _most(chosen: np.ndarray, num_steps: int) -> int:
    """The most steps that are chosen in one segment."""
    padded = np.zeros(-(-len(chosen) // num_steps) * num_steps, bool)
    padded[: len(chosen)] = chosen
    return int(padded.reshape(-1, num_steps).sum(1).max(initial=0))


def _stream(segments, predictor, event_buckets, num_steps, max_slots, wanted) -> Iterator[Batch]:
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
    )
    yield from stream
    if stream.lost_events:
        logger.warning(
            "%d events did not fit: the largest of data.event_buckets is %d for %d ms; raise it",
            stream.lost_events,
            event_buckets[-1],
            num_steps * geometry.step_us // 1000,
        )
