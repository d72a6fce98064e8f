"""Detectors on recordings: evaluation by a protocol, and boxes after every step.

Neck and head take 60 to 87 % of the arithmetic, and a protocol that compares the nearest time stamp looks at one step
in fifty. `evaluate` therefore runs them at the step nearest to a label, and further away only while no box there
survives the protocol's filter: a step whose boxes are all dropped does not exist for the protocol. The numbers are
those of the full pass.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdet import distributed
from jaxdet.data.events import sequences
from jaxdet.evaluation import coco, protocols
from jaxdet.evaluation.protocols import Protocol, Rows
from jaxdet.inference.events import Frame, Predictor
from jaxdet.structs import Batch

logger = logging.getLogger(__name__)

STEP_US = 5_000
FULL_STEPS = 18  # steps a segment where every one is looked at: all their features are in memory at once
SPARSE_STEPS = 45


class Sensor(NamedTuple):
    """What the stream needs to know of the input."""

    size: tuple[int, int]  # height, width
    event_buckets: tuple[int, ...]


def evaluate(
    predictor: Predictor,
    recordings: Sequence[Any],
    sensor: Sensor,
    protocol: Protocol = protocols.PROTOCOLS["hmnet"],
    class_names: Sequence[str] = protocols.CLASS_NAMES,
    full: bool = False,
    backend: str = "pycocotools",
) -> coco.Metrics:
    """Metrics of a detector on labelled recordings (see data.recordings).

    `full` runs neck and head at every step. Several processes take every n-th recording each; all return the metrics
    of all recordings.
    """
    mine = distributed.share(recordings)
    found = _detections(predictor, mine, sensor, protocol, full)
    labels = [protocols.rows(recording.labels, recording.name) for recording in recordings]
    return protocols.evaluate(zip(labels, distributed.joined(found, Rows)), protocol, class_names, backend)


def _detections(predictor, recordings, sensor, protocol, full) -> list[Rows]:
    """What the protocol compares of each recording."""
    labels = [protocols.rows(recording.labels, recording.name) for recording in recordings]
    times = [_label_times(table, protocol) for table in labels]
    wanted = None if full else _wanted(times, protocol)
    num_steps = _whole_cycles(predictor, FULL_STEPS if full else SPARSE_STEPS)
    batches = distributed.told(
        _batches(predictor, recordings, sensor, num_steps, wanted), "reading a recording"
    )
    if full or not protocol.nearest:
        frames = predictor.every_slot(batches)
    else:
        frames = predictor.first_hits(batches, _wishes(recordings, times, protocol), _survives(protocol))
    return _collect(frames, len(recordings), protocol)


def predict(
    predictor: Predictor, recordings: Iterable[Any], sensor: Sensor, num_steps: int = FULL_STEPS
) -> Iterator[Frame]:
    """Boxes after every step of recordings, one after the other where there is one lane."""
    num_steps = _whole_cycles(predictor, num_steps)
    return predictor.every_slot(_batches(predictor, recordings, sensor, num_steps, None))


def predict_stream(
    predictor: Predictor, chunks: Iterable[Any], sensor: Sensor, num_steps: int = FULL_STEPS
) -> Iterator[Frame]:
    """Boxes after every step of events (t_us, x, y, polarity) that come in chunks in order of time."""
    num_steps = _whole_cycles(predictor, num_steps)
    segments = sequences.of_chunks(chunks, num_steps * STEP_US, STEP_US)
    return predictor.every_slot(_stream([segments], predictor, sensor, num_steps, None, None))


def _whole_cycles(predictor: Predictor, num_steps: int) -> int:
    """The next number of steps after which the firing pattern starts anew, as every segment assumes."""
    return -(-num_steps // predictor.cycle) * predictor.cycle


def rows(frames: Sequence[Frame]) -> Rows:
    """Frames of one recording as the table that evaluators read."""
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(f.boxes for f in frames)])
    xywh = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1)
    return Rows(
        np.repeat(np.array([f.t_us for f in frames], np.int64), [len(f.scores) for f in frames]),
        xywh,
        np.concatenate([np.zeros(0, np.int64), *(f.labels for f in frames)]),
        np.concatenate([np.zeros(0, np.float32), *(f.scores for f in frames)]),
    )


def _label_times(labels: Rows, protocol):
    kept = protocol.keep(labels.t_us, labels.xywh[:, 2], labels.xywh[:, 3])
    return np.unique(labels.t_us[kept])


def _wanted(times: Sequence[np.ndarray], protocol) -> sequences.Wanted:
    reach = protocol.tolerance_us + (0 if protocol.nearest else 1)
    near = [sequences.near(label_times, reach) for label_times in times]
    return lambda sequence, ends_us: near[sequence](ends_us) & (ends_us > protocol.skip_us)


def _ends(recording) -> np.ndarray:
    return STEP_US * np.arange(1, -(-1000 * recording.duration_ms // STEP_US) + 1)


def _wishes(recordings, times, protocol) -> Iterator[tuple[int, list[int]]]:
    for sequence, recording in enumerate(recordings):
        ends = _ends(recording)
        ends = ends[ends > protocol.skip_us]
        for t_us in times[sequence]:
            yield sequence, ends[protocol.candidates(int(t_us), ends)].tolist()


def _survives(protocol):
    def counts(frame: Frame) -> bool:
        size = frame.boxes[:, 2:] - frame.boxes[:, :2]
        return bool(protocol.keep(np.full(len(size), frame.t_us), size[:, 0], size[:, 1]).any())

    return counts


def _collect(frames: Iterable[Frame], num_recordings: int, protocol) -> list[Rows]:
    """Detections by recording, less what the protocol drops anyway."""
    found: list[list[Frame]] = [[] for _ in range(num_recordings)]
    for frame in frames:
        size = frame.boxes[:, 2:] - frame.boxes[:, :2]
        kept = protocol.keep(np.full(len(size), frame.t_us), size[:, 0], size[:, 1])
        parts = (frame.boxes[kept], frame.scores[kept], frame.labels[kept])
        found[frame.sequence].append(Frame(frame.sequence, frame.t_us, *parts, ()))
    return [rows(of_recording) for of_recording in found]


def _batches(predictor, recordings, sensor, num_steps, wanted) -> Iterator[Batch]:
    recordings = list(recordings)
    segment_us = num_steps * STEP_US
    most = max((_most_slots(wanted, i, r, num_steps) for i, r in enumerate(recordings)), default=1)
    segments = (sequences.of_recording(recording, segment_us, STEP_US) for recording in recordings)
    return _stream(segments, predictor, sensor, num_steps, max(most, 1), wanted)


def _most_slots(wanted, sequence, recording, num_steps) -> int:
    if wanted is None:
        return num_steps
    chosen = wanted(sequence, _ends(recording))
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
