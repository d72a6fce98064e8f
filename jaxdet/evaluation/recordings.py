"""Evaluation of detectors on recordings by a protocol.

Neck and head take 60 to 87 % of the arithmetic, and a protocol that compares the nearest time stamp looks at one step
in fifty. `evaluate` therefore runs them at the step nearest to a label, and further away only while no box there
survives the protocol's filter: a step whose boxes are all dropped does not exist for the protocol. The numbers are
those of the full pass.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxdet import distributed
from jaxdet.data.events import sequences
from jaxdet.evaluation import coco, protocols
from jaxdet.evaluation.protocols import Protocol, Rows
from jaxdet.inference import recordings as running
from jaxdet.inference.events import Frame, Predictor
from jaxdet.inference.recordings import FULL_STEPS, Sensor

_SPARSE_STEPS = 45  # steps a segment where few are looked at


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
    return protocols.evaluate(zip(labels, distributed.joined(found)), protocol, class_names, backend)


def _detections(predictor, recordings, sensor, protocol, full) -> list[Rows]:
    """What the protocol compares of each recording."""
    labels = [protocols.rows(recording.labels, recording.name) for recording in recordings]
    times = [_label_times(table, protocol) for table in labels]
    wanted = None if full else _wanted(times, protocol)
    num_steps = running.whole_cycles(predictor, FULL_STEPS if full else _SPARSE_STEPS)
    batches = distributed.told(
        running.batches(predictor, recordings, sensor, num_steps, wanted), "reading a recording"
    )
    if full or not protocol.nearest:
        frames = predictor.every_slot(batches)
    else:
        frames = predictor.first_hits(batches, _wishes(recordings, times, protocol), _survives(protocol))
    return _collect(frames, len(recordings), protocol)


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


def _wishes(recordings, times, protocol) -> Iterator[tuple[int, list[int]]]:
    for sequence, recording in enumerate(recordings):
        ends = running.ends(recording)
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
