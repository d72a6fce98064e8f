"""The values that travel between data, models and evaluation.

Shape letters, used in every signature of the project:

    B lanes (batch)      T steps in a segment          N events in a segment and lane
    K labelled slots     M boxes in a slot             D detections in a slot
    A candidate boxes over all levels                  H W C height, width, channels

Boxes are `xyxy` in input pixels. Masks are true where an entry is real; padding never changes a result.
Leaves of the batches are numpy arrays in the data layer and jax arrays afterwards, so this module imports no
jax. `Boxes` is the host's form of one frame, `Detections` the device's padded form of many.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from jaxdet import class_names

Array = Any


class Events(NamedTuple):
    """Events of one segment, flat per lane, sorted by step and within a step by window.

    Every array leads with the lane axis, so one sharding fits all.
    """

    xy: Array  # float32 [B, N, 2]   column, row; real numbers after the resize augmentation
    t_us: Array  # int16   [B, N]      time since the event's step began
    polarity: Array  # int8    [B, N]      0 or 1
    step_start: Array  # int32   [B, T + 1]  events of step k are rows step_start[k] : step_start[k + 1]


class Images(NamedTuple):
    """Network-sized images."""

    pixels: Array  # uint8 or float [B, H, W, C]   0..255, channel order of the model family


class Targets(NamedTuple):
    """Labels of the labelled steps ("slots") of a segment; an image is one slot at step 0."""

    boxes: Array  # float32 [B, K, M, 4]   xyxy, input pixels
    labels: Array  # int32   [B, K, M]
    box_mask: Array  # bool    [B, K, M]
    ignore_mask: Array  # bool    [B, K, M]      present but not scored (too small)
    at_step: Array  # int32   [B, K]         step of the segment this slot belongs to
    slot_mask: Array  # bool    [B, K]


class Batch(NamedTuple):
    """One training or evaluation step's input."""

    inputs: Events | Images
    targets: Targets
    reset: Array  # bool  [B]            this lane starts a new recording: reset its memory
    source: Array  # int32 [B, K, 2]      (recording or clip, t_us or frame), to name predictions


class Detections(NamedTuple):
    """Boxes a detector reports, best first, padded to D a slot."""

    boxes: Array  # float32 [B, K, D, 4]   xyxy, input pixels
    scores: Array  # float32 [B, K, D]
    labels: Array  # int32   [B, K, D]
    det_mask: Array  # bool    [B, K, D]


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of one frame, detected or labelled, best first where they are detected; NumPy.

    Coordinates are pixels of the image or sensor. They are float32 as detectors give them and float64 as text
    files do; nothing rounds them on the way. `source`, with `time_us` or `frame`, says where the boxes come
    from: the path of an image relative to its root, or the name of a recording, clip or video.
    """

    xyxy: np.ndarray  # float32 or float64 [n, 4]
    scores: np.ndarray  # float [n]        in [0, 1]; ones for labels
    labels: np.ndarray  # int32 [n]        index into `class_names`
    class_names: tuple[str, ...] = ()  # () where the file names no classes
    source: str = ""
    time_us: int | None = None  # recordings: end of the step, in the clock of the camera
    frame: int | None = None  # videos and clips: number of the frame
    image_size: tuple[int, int] | None = None  # height, width
    image_id: int | str | None = None  # the image's id in a COCO file
    area: np.ndarray | None = None  # float64 [n]      for COCO's size limits; None: width times height
    crowd: np.ndarray | None = None  # bool [n]         regions whose detections are not counted
    track_ids: np.ndarray | None = None  # int64 [n]     identity over time, from 1 on; -1: of no track
    file_xywh: np.ndarray | None = None  # [n, 4] x, y, width, height as a file gave them; see `xywh`

    @classmethod
    def of_xywh(cls, xywh: Any, scores: Any, labels: Any, **where: Any) -> "Boxes":
        """Boxes from rows of left, top, width, height, which `xywh` gives back bit for bit."""
        xywh = np.asarray(xywh).reshape(-1, 4)
        xyxy = np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), 1)
        return cls(xyxy, np.asarray(scores), np.asarray(labels, np.int32), file_xywh=xywh, **where)

    @classmethod
    def none(cls, **where: Any) -> "Boxes":
        """A frame without boxes."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), **where)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def xywh(self) -> np.ndarray:
        """Left, top, width, height [n, 4]; exactly those of the file where the boxes were read as such."""
        if self.file_xywh is not None:
            return self.file_xywh
        return np.concatenate((self.xyxy[:, :2], self.xyxy[:, 2:] - self.xyxy[:, :2]), 1)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each box's class, its number where classes have no names."""
        known = dict(enumerate(self.class_names))
        return tuple(known.get(label, str(label)) for label in self.labels.tolist())

    def take(self, rows: Any) -> "Boxes":
        """The boxes of `rows`, an index array, a mask [n] or a slice, of the same frame."""
        columns = ("xyxy", "scores", "labels", "area", "crowd", "track_ids", "file_xywh")
        present = {name: getattr(self, name) for name in columns if getattr(self, name) is not None}
        return replace(self, **{name: column[rows] for name, column in present.items()})

    def scaled(self, factor: float) -> "Boxes":
        """The boxes in pixels of the image enlarged by `factor`."""
        size = self.image_size and (round(self.image_size[0] * factor), round(self.image_size[1] * factor))
        sides = None if self.file_xywh is None else self.file_xywh * factor
        return replace(self, xyxy=self.xyxy * factor, file_xywh=sides, area=None, image_size=size)

    def to_coco(self, category_ids: Sequence[int | str] | None = None) -> list[dict[str, Any]]:
        """COCO results, one row a box.

        `category_ids` [classes] are by default COCO's own for COCO's classes, else 1, 2, ... The image is
        called by its id, or else by its source.
        """
        ids = class_names.coco_ids(self.class_names) if category_ids is None else category_ids
        return [
            {
                "image_id": self.source if self.image_id is None else self.image_id,
                "category_id": ids[label] if label < len(ids) else label,
                "bbox": box,
                "score": score,
            }
            for box, score, label in zip(
                self.xywh.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True
            )
        ]


@dataclass(frozen=True)
class EventGeometry:
    """Sensor, step and cells of a detector of events; made once from its config and handed down."""

    height: int  # pixels
    width: int  # pixels
    step_us: int = 5_000  # microseconds a step
    window: int = 4  # pixels a side of a cell of the first memory
    time_bins: int = 100  # parts of a step that the time embedding tells apart

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


class ReadReport:
    """Count of what was left out, clamped or guessed while reading, by reason.

    Readers add to it; whoever asked for the data prints `line()` before the work ends and stores `counts`
    beside the result. `first` says where the first of each reason was, if its reader said so.
    """

    def __init__(self, counts: Mapping[str, int] | None = None):
        self.counts: Counter[str] = Counter(counts or {})
        self.notes: Counter[str] = Counter()  # what was converted or guessed; nothing was lost
        self.first: dict[str, str] = {}

    def add(self, reason: str, count: int = 1, where: str = "") -> None:
        """Count `count` times `reason`, a plural noun phrase such as "events outside the sensor"."""
        if count:
            self.counts[reason] += int(count)
            if where:
                self.first.setdefault(reason, where)

    def note(self, what: str, count: int = 1, where: str = "") -> None:
        """Count `count` times `what` was read otherwise than it stands in the file, without a loss."""
        if count:
            self.notes[what] += int(count)
            if where:
                self.first.setdefault(what, where)

    def merge(self, other: "ReadReport") -> None:
        """Add the counts of another report."""
        self.counts.update(other.counts)
        self.notes.update(other.notes)
        self.first = other.first | self.first

    def clear(self) -> None:
        """Forget everything, before what is counted is read once more."""
        self.counts.clear()
        self.notes.clear()
        self.first.clear()

    def __bool__(self) -> bool:
        return any(self.counts.values()) or any(self.notes.values())

    @property
    def num_lost(self) -> int:
        """Number of things that were left out."""
        return sum(self.counts.values())

    def line(self, source: str = "") -> str:
        """One line, such as "x.raw: left out 12 events outside the sensor, 1 label"; "" if empty.

        What was only noted follows after a semicolon.
        """
        parts = [
            f"{intro}{', '.join(self._shown(counts))}"
            for intro, counts in (("left out ", self.counts), ("read ", self.notes))
            if any(counts.values())
        ]
        return (f"{source}: " if source and parts else "") + "; ".join(parts)

    def _shown(self, counts: Counter[str]) -> list[str]:
        return [
            f"{count} {reason}" + (f" (first: {self.first[reason]})" if reason in self.first else "")
            for reason, count in sorted(counts.items())
        ]
