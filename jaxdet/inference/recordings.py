"""Inference on recordings: boxes after every step, or batches with slots only at the steps wanted."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxdet.data.events import sequences
from jaxdet.inference.events import Predictor, StepBoxes
from jaxdet.structs import Batch

logger = logging.getLogger(__name__)

FULL_STEPS = 18  # steps per segment when boxes are wanted at all of them: it bounds the memory of features


def predict(
    predictor: Predictor,
    recordings: Iterable[Any],
    event_buckets: Sequence[int],
    num_steps: int = FULL_STEPS,
) -> Iterator[StepBoxes]:
    """Boxes after every step of recordings; with one lane, one recording after the other.

    `event_buckets` are the padded numbers of events per segment; `num_steps`, the steps per segment, is
    rounded up to whole firing cycles.
    """
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
    """Boxes after every step of a stream of events, given as chunks (t_us, x, y, polarity) in order of time.

    `source` names the stream in the boxes; other arguments as in `predict`.
    """
    num_steps, step_us = whole_cycles(predictor, num_steps), predictor.geometry.step_us
    segments = sequences.of_chunks(chunks, num_steps * step_us, step_us)
    found = _stream([segments], predictor, event_buckets, num_steps, None, None)
    return predictor.every_slot(found, [source])


def whole_cycles(predictor: Predictor, num_steps: int) -> int:
    """`num_steps` rounded up to whole firing cycles, as every segment must have."""
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
    """Segments of `num_steps` steps of all recordings, with slots at the `wanted` steps (None: at all)."""
    step_us, most = predictor.geometry.step_us, num_steps
    if wanted is not None:
        slots = (_most(wanted(i, ends(r, step_us)), num_steps) for i, r in enumerate(recordings))
        most = max(slots, default=1)
    segments = (sequences.of_recording(r, num_steps * step_us, step_us) for r in recordings)
    return _stream(segments, predictor, event_buckets, num_steps, max(most, 1), wanted)


def _most(chosen: np.ndarray, num_steps: int) -> int:
    """Largest number of chosen steps in one segment."""
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
            "%d events were dropped: the largest of data.event_buckets is %d per %d ms; give a larger one",
            stream.lost_events,
            event_buckets[-1],
            num_steps * geometry.step_us // 1000,
        )
