"""Pairing of labels and detections of recordings by time, for which three protocols are in use.

The protocols of GEN1 drop small and early boxes, then compare labels with detections near in time. They give
different numbers; `PROTOCOLS` lists them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxdet.evaluation import coco
from jaxdet.structs import Boxes


class Protocol(NamedTuple):
    """Settings of one evaluator of recordings.

    Labels and detections alike take part only if they are later than `skip_us` and reach both sizes.
    """

    skip_us: int  # boxes up to and including this time are dropped
    min_diagonal: float  # pixels
    min_side: float  # pixels
    tolerance_us: int
    # True: the single nearest time stamp, closer than the tolerance; False: all within it, limits included.
    nearest: bool

    def keep(self, t_us, width, height) -> np.ndarray:
        """Mask [R] of the boxes that take part, from their times and sizes [R] in pixels.

        Sizes are compared in the precision of the input.
        """
        big = width**2 + height**2 >= self.min_diagonal**2
        return (t_us > self.skip_us) & big & (width >= self.min_side) & (height >= self.min_side)

    def candidates(self, t_us: int, times) -> np.ndarray:
        """Indices into the ascending `times` that a label at `t_us` can be compared with, best first.

        With `nearest` they are sorted by distance, the earlier first of two equally near; otherwise by time.
        """
        times = np.asarray(times)
        if not self.nearest:
            first, last = np.searchsorted(times, [t_us - self.tolerance_us, t_us + self.tolerance_us + 1])
            return np.arange(first, last)
        first, last = np.searchsorted(times, [t_us - self.tolerance_us + 1, t_us + self.tolerance_us])
        return first + np.argsort(np.abs(times[first:last] - t_us), kind="stable")


PROTOCOLS = {
    # The released HMNet evaluator, which gave the published numbers.
    "hmnet": Protocol(500_000, 30, 10, 25_000, nearest=True),
    # RVT and its successors.
    "rvt": Protocol(500_000, 30, 10, 50_000, nearest=False),
    # The unmodified Prophesee toolbox as it treats GEN1.
    "toolbox": Protocol(100_000, 30, 20, 50_000, nearest=False),
}


class Rows(NamedTuple):
    """Boxes of one recording as columns, in any order."""

    t_us: np.ndarray  # int64 [R]
    xywh: np.ndarray  # float [R, 4]
    labels: np.ndarray  # int64 [R]
    scores: np.ndarray  # float [R]

    def take(self, rows) -> "Rows":
        """Select rows by an index array or a mask."""
        return Rows(*(column[rows] for column in self))


def rows(frames: Sequence[Boxes]) -> Rows:
    """Columns of the frames of one recording. Frames that have boxes must have a time."""
    frames = [boxes for boxes in frames if len(boxes)]
    if not frames:
        nothing = np.zeros(0, np.int64)
        return Rows(nothing, np.zeros((0, 4), np.float32), nothing, np.zeros(0, np.float32))
    counts = [len(boxes) for boxes in frames]
    if all(boxes.file_xywh is None for boxes in frames):
        # The same numbers as `Boxes.xywh`, computed for all frames at once.
        xywh = np.concatenate([boxes.xyxy for boxes in frames])
        xywh = np.concatenate((xywh[:, :2], xywh[:, 2:] - xywh[:, :2]), 1)
    else:
        xywh = np.concatenate([boxes.xywh for boxes in frames])
    return Rows(
        np.repeat(np.array([boxes.time_us for boxes in frames], np.int64), counts),
        xywh,
        np.concatenate([boxes.labels for boxes in frames]).astype(np.int64),
        np.concatenate([boxes.scores for boxes in frames]),
    )


def match(truth: Rows, found: Rows, protocol: Protocol) -> tuple[np.ndarray, coco.Table, coco.Table]:
    """Pair one recording's labels with its detections -> (times [I], ground truth, detections).

    Each distinct time that has a label after filtering counts as one image; `image` of both tables indexes
    `times`, int64 us.
    """
    truth, found = (_in_time(table.take(_keep(table, protocol))) for table in (truth, found))
    times, image = np.unique(truth.t_us, return_inverse=True)
    stamps, first = np.unique(found.t_us, return_index=True)
    first = [*first.tolist(), len(found.t_us)]
    chosen, of_image = [], []
    for index, t_us in enumerate(times):
        near = protocol.candidates(int(t_us), stamps)
        for stamp in near[:1] if protocol.nearest else near:
            chosen.append(np.arange(first[stamp], first[stamp + 1]))
            of_image.append(np.full(len(chosen[-1]), index))
    found = found.take(np.concatenate(chosen) if chosen else np.zeros(0, np.int64))
    of_image = np.concatenate(of_image) if of_image else np.zeros(0, np.int64)
    return times, coco.table(image, truth.xywh, truth.labels), coco.table(of_image, *found[1:])


def _keep(table: Rows, protocol):
    return protocol.keep(table.t_us, table.xywh[:, 2], table.xywh[:, 3])


def _in_time(table: Rows) -> Rows:
    return table.take(np.argsort(table.t_us, kind="stable"))
