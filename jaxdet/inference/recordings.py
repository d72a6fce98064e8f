"""A detector on recordings: boxes after every step, or the batches of segments from which a protocol takes what it needs."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxdet.data.events import sequences
from jaxdet.inference.events import Frame, Predictor
from jaxdet.structs import Batch

logger = logging.getLogger(__name__)

STEP_US = 5_000
FULL_STEPS = 18  # steps a segment where every one is looked at: all their features are in memory at once


class Sensor(NamedTuple):
    """What the stream needs to know of the input."""

    size: tuple[int, int]  # height, width
    event_buckets: tuple[int, ...]


def predict(
    predictor: Predictor, recordings: Iterable[Any], sensor: Sensor, num_steps: int = FULL_STEPS
) -> Iterator[Frame]:
    """Boxes after every step of recordings, one after the other where there is one lane."""
    num_steps = whole_cycles(predictor, num_steps)
    return predictor.every_slot(batches(predictor, recordings, sensor, num_steps, None))


def predict_stream(
    predictor: Predictor, chunks: Iterable[Any], sensor: Sensor, num_steps: int = FULL_STEPS
) -> Iterator[Frame]:
    """Boxes after every step of events (t_us, x, y, polarity) that come in chunks in order of time."""
    num_steps = whole_cycles(predictor, num_steps)
    segments = sequences.of_chunks(chunks, num_steps * STEP_US, STEP_US)
    return predictor.every_slot(_stream([segments], predictor, sensor, num_steps, None, None))


def whole_cycles(predictor: Predictor, num_steps: int) -> int:
    """The next number of steps after which the firing pattern starts anew, as every segment assumes."""
    return -(-num_steps // predictor.cycle) * predictor.cycle


def ends(recording) -> np.ndarray:
    return STEP_US * np.arange(1, -(-1000 * recording.duration_ms // STEP_US) + 1)


def batches(predictor, recordings, sensor, num_steps, wanted) -> Iterator[Batch]:
    recordings = list(recordings)
    segment_us = num_steps * STEP_US
    most = max((_most_slots(wanted, i, r, num_steps) for i, r in enumerate(recordings)), default=1)
    segments = (sequences.of_recording(recording, segment_us, STEP_US) for recording in recordings)
    return _stream(segments, predictor, sensor, num_steps, max(most, 1), wanted)


def _most_slots(wanted, sequence, recording, num_steps) -> int:
    if wanted is None:
        return num_steps
    chosen = wanted(sequence, ends(recording))
    padded = np.zeros(-(-len(chosen) // num_steps) * num_steps, bool)
    padded[: len(chosen)] = chosen
    return int(padded.reshape(-1, num_steps).sum(1).max(initial=0))


def _stream(segments, predictor, sensor, num_steps, max_slots, wanted) -> Iterator[Batch]:
    stream = sequences.Stream(
        segments,
        num_lanes=predictor.num_lanes,
        segment_us=num_steps * STEP_US,
        step_us=STEP_US,
        size=sensor.size,
        event_buckets=sensor.event_buckets,
        max_slots=max_slots,
        wanted=wanted,
    )
    yield from stream
    if stream.lost_events:
        logger.warning(
            "%d events did not fit: the largest of data.event_buckets is %d for %d ms; raise it",
            stream.lost_events,
            sensor.event_buckets[-1],
            num_steps * STEP_US // 1000,
        )
