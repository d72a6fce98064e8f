"""Evaluation of detectors on recordings by a protocol.

Neck and head take 60 to 87 % of the arithmetic, and a protocol that compares the nearest time stamp uses one
step in fifty. `evaluate` therefore runs them at the step nearest to a label, and at steps further away only
while no box passes the protocol's filter: a step whose boxes are all dropped does not exist for the protocol.
The numbers are those of the full pass.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxdet import class_names as names_of
from jaxdet import distributed, terminal
from jaxdet.data.events import sequences
from jaxdet.evaluation import labels as label_sets
from jaxdet.evaluation import protocols, used_labels
from jaxdet.evaluation.evaluator import evaluate as evaluate_boxes
from jaxdet.evaluation.metrics import Metrics
from jaxdet.evaluation.protocols import Protocol
from jaxdet.inference import recordings as running
from jaxdet.inference.events import Predictor, StepBoxes
from jaxdet.structs import Boxes, ReadReport

logger = logging.getLogger(__name__)

_SPARSE_STEPS = 45  # steps per segment when neck and head run at few of them


def evaluate(
    predictor: Predictor,
    recordings: Sequence[Any],
    event_buckets: Sequence[int],
    protocol: str | Protocol = "hmnet",
    class_names: Sequence[str] = names_of.GEN1,
    full: bool = False,
    backend: str = "pycocotools",
) -> Metrics:
    """Metrics of a detector on labelled recordings (see `data.events.recordings`).

    `event_buckets` are the padded numbers of events per segment, `full` runs neck and head at every step. A
    protocol given by name takes the camera's rules from the labels. The labels that count are reported before
    the detector runs. Several processes divide the recordings; each returns the metrics of all recordings.
    """
    labels = label_sets.of_recordings(recordings)
    if isinstance(protocol, str):
        protocol = protocols.for_labels(protocol, labels)
    used = used_labels.select(labels, protocol, class_names)
    if distributed.is_main():
        logger.info("%s", used.line())
    report = ReadReport()
    own = _detections(predictor, distributed.share_of(recordings), event_buckets, used, full, report)
    found = distributed.gather_in_order(own, Boxes)
    stream = (boxes for of_recording in found for boxes in of_recording)
    return evaluate_boxes(stream, labels, protocol, class_names, backend, _of_all(report))


def _detections(
    predictor, recordings, event_buckets, used: used_labels.UsedLabels, full, report: ReadReport
) -> list[list[Boxes]]:
    """Detections of each recording, without those that the protocol drops; `report` counts lost events."""
    protocol = used.protocol
    times = [_label_times(used.of_recording[recording.name]) for recording in recordings]
    names = [recording.name for recording in recordings]
    wanted = None if full else _wanted(times, protocol)
    num_steps = running.whole_cycles(predictor, running.FULL_STEPS if full else _SPARSE_STEPS)
    batches = distributed.report_each(
        running.batches(predictor, recordings, event_buckets, num_steps, wanted, report),
        "reading a recording",
    )
    if full or protocol.answer == "within":
        steps = predictor.every_slot(batches, names)
    else:
        requested = _requested_steps(recordings, times, protocol, predictor.geometry.step_us)
        steps = predictor.first_hits(batches, names, requested, _survives(protocol))
    return _collect(steps, names, protocol)


def _of_all(own: ReadReport) -> ReadReport:
    """The counts of all processes."""
    whole = ReadReport()
    for counts in distributed.gather(dict(own.counts)):
        whole.counts.update(counts)
    return whole


def _label_times(labels: Sequence[Boxes]) -> np.ndarray:
    """Times, us, with a label that takes part, ascending."""
    return np.unique(protocols.rows(labels).t_us)


def _wanted(times: Sequence[np.ndarray], protocol) -> sequences.Wanted:
    reach = protocol.tolerance_us + (0 if protocol.answer == "nearest" else 1)
    near = [sequences.near(label_times, reach) for label_times in times]
    return lambda sequence, ends_us: near[sequence](ends_us) & (ends_us > protocol.skip_us)


def _requested_steps(recordings, times, protocol, step_us) -> Iterator[tuple[int, list[int]]]:
    for sequence, recording in enumerate(recordings):
        ends = running.ends(recording, step_us)
        ends = ends[ends > protocol.skip_us]
        for t_us in times[sequence]:
            yield sequence, ends[protocol.candidates(int(t_us), ends)].tolist()


def _survives(protocol):
    return lambda boxes: bool(_kept(boxes, protocol).any())


def _collect(steps: Iterable[StepBoxes], names: Sequence[str], protocol) -> list[list[Boxes]]:
    # A recording without detections counts too.
    found = [[Boxes.none(source=name)] for name in names]
    for step in terminal.track(steps, "evaluate", None, "moments"):
        found[step.sequence].append(step.boxes.take(_kept(step.boxes, protocol)))
    return found


def _kept(boxes: Boxes, protocol) -> np.ndarray:
    """Mask of the boxes that pass the protocol's filter of time and size."""
    return protocol.keep(np.full(len(boxes), boxes.time_us), boxes.xywh[:, 2], boxes.xywh[:, 3])
