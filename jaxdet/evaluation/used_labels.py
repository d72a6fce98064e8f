"""Labels of recordings that a protocol scores: chosen by class, by time, then by size."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from jaxdet.errors import InputError
from jaxdet.evaluation.protocols import Grid, Protocol
from jaxdet.formats import names
from jaxdet.structs import Boxes


@dataclass
class UsedLabels:
    """Labels that are scored, and the reasons for which the others are not."""

    protocol: Protocol
    class_names: tuple[str, ...]  # that are scored
    of_recording: dict[str, list[Boxes]] = field(default_factory=dict)  # labels index the scored classes
    left_out: Counter[str] = field(default_factory=Counter)  # labels by reason
    num_labels: int = 0
    num_used: int = 0
    rate_hz: float | None = None  # of label times in use; None where no recording has two

    def line(self, num_other_found: int = 0) -> str:
        """Protocol, filters, scored classes, label rate, and numbers of labels used and left out."""
        rate = "single label times" if self.rate_hz is None else f"labels at {self.rate_hz:.3g} Hz"
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items() if count)
        parts = [
            f"{self.protocol.title}: {self.protocol.rule}",
            f"classes {', '.join(self.class_names)}",
            rate,
            f"{self.num_used} of {self.num_labels} labels used"
            + (f", left out {reasons}" if reasons else ""),
        ]
        if num_other_found:
            parts.append(f"left out {num_other_found} detections of other classes")
        return "; ".join(parts)


def select(labels: Iterable[Boxes], protocol: Protocol, class_names: Sequence[str]) -> UsedLabels:
    """Choose the labels that `protocol` scores; those without class names index `class_names`.

    Raises InputError for a label of a class that is not among `class_names`.
    """
    used = UsedLabels(protocol, protocol.scores_class(class_names))
    frames_of: dict[str, list[Boxes]] = {}
    for boxes in labels:
        used.num_labels += len(boxes)
        frames_of.setdefault(boxes.source, []).append(_of_class(boxes, class_names, used))
    distances = []
    for name, frames in frames_of.items():
        kept = _of_time_and_size(frames, protocol, used)
        used.of_recording[name] = kept or [Boxes.none(source=name)]
        used.num_used += sum(map(len, kept))
        distances.append(np.diff(np.unique([_time(boxes) for boxes in kept])))
    distances = np.concatenate(distances) if distances else np.zeros(0)
    if len(distances):
        used.rate_hz = 1e6 / float(np.median(distances))
    return used


def on_grid(times_us: np.ndarray, grid: Grid) -> np.ndarray:
    """Those of the ascending times [T] that lie on the grid."""
    times = times_us[times_us >= grid.first_us]
    if len(times) < 2:
        return times
    step = float(grid.step_us)
    if grid.by_rate:
        median = float(np.median(np.diff(times)))
        step = max(1, round(step / median)) * median
    kept = [int(times[0])]
    for t_us in times[1:].tolist():
        distance = t_us - kept[-1]
        multiple = round(distance / step)
        if multiple > 0 and abs(distance - multiple * step) <= grid.tolerance_us:
            kept.append(t_us)
    return np.array(kept, times.dtype)


def _of_class(boxes: Boxes, class_names: Sequence[str], used: UsedLabels) -> Boxes:
    known = boxes.class_names or tuple(class_names)
    outside = (boxes.labels < 0) | (boxes.labels >= len(known))
    if outside.any():
        raise InputError(
            f"{names.file_name(boxes)}: class {boxes.labels[outside][0]} found, expected 0 to "
            f"{len(known) - 1} ({', '.join(known)})"
        )
    foreign = [known[label] for label in boxes.labels.tolist() if known[label] not in class_names]
    if foreign:
        raise InputError(
            f"{names.file_name(boxes)}: a label of class {foreign[0]!r}, "
            f"expected one of {', '.join(class_names)}"
        )
    index = {name: i for i, name in enumerate(used.class_names)}
    new = np.array([index.get(name, -1) for name in known], np.int32)[boxes.labels]
    used.left_out["of other classes"] += int((new < 0).sum())
    return replace(boxes.take(new >= 0), labels=new[new >= 0], class_names=())


def _of_time_and_size(frames: Sequence[Boxes], protocol: Protocol, used: UsedLabels) -> list[Boxes]:
    frames = [boxes for boxes in frames if len(boxes)]
    if protocol.grid is not None:
        grid = protocol.grid
        big = protocol._replace(skip_us=-(2**62), min_diagonal=grid.min_diagonal, min_side=grid.min_side)
        times = {_time(boxes) for boxes in frames if _kept(boxes, big).any()}
        scored = set(on_grid(np.array(sorted(times), np.int64), grid).tolist())
        off = [boxes for boxes in frames if _time(boxes) not in scored]
        used.left_out["off the grid of label times"] += sum(map(len, off))
        frames = [boxes for boxes in frames if _time(boxes) in scored]
    result = []
    for boxes in frames:
        kept = _kept(boxes, protocol)
        early = len(boxes) if _time(boxes) <= protocol.skip_us else 0
        used.left_out["too early"] += early
        used.left_out["too small"] += 0 if early else int((~kept).sum())
        if kept.any():
            result.append(boxes.take(kept))
    return result


def _kept(boxes: Boxes, protocol: Protocol) -> np.ndarray:
    xywh = boxes.xywh
    return protocol.keep(np.full(len(boxes), _time(boxes), np.int64), xywh[:, 2], xywh[:, 3])


def _time(boxes: Boxes) -> int:
    if boxes.time_us is None:
        raise InputError(f"{names.file_name(boxes)}: labels without time; expected time_us")
    return boxes.time_us
