"""Which boxes the GEN1 protocols compare: filters, matching in time, COCO metrics of the pairs.

Three protocols are in use for the same data set and their numbers differ; `PROTOCOLS` names them.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxdet import class_names
from jaxdet.errors import InputError
from jaxdet.evaluation import coco

CLASS_NAMES = class_names.GEN1


class Protocol(NamedTuple):
    """Rules of one evaluator. A box must start after `skip_us` and reach both sizes, on either side."""

    skip_us: int  # boxes up to and including this time are dropped
    min_diagonal: float  # pixels
    min_side: float  # pixels
    tolerance_us: int
    nearest: (
        bool  # the single nearest time stamp, closer than the tolerance; else all within it, borders included
    )

    def keep(self, t_us, width, height) -> np.ndarray:
        """Rows that take part -> bool [R]. Sizes are compared in the precision they come in."""
        big = width**2 + height**2 >= self.min_diagonal**2
        return (t_us > self.skip_us) & big & (width >= self.min_side) & (height >= self.min_side)

    def candidates(self, t_us: int, times) -> np.ndarray:
        """Indices into the rising `times` that a label at `t_us` can be compared with, the preferred first.

        Nearest first and of two equally near the earlier; in their own order where all within the tolerance count.
        """
        times = np.asarray(times)
        if not self.nearest:
            first, last = np.searchsorted(times, [t_us - self.tolerance_us, t_us + self.tolerance_us + 1])
            return np.arange(first, last)
        first, last = np.searchsorted(times, [t_us - self.tolerance_us + 1, t_us + self.tolerance_us])
        return first + np.argsort(np.abs(times[first:last] - t_us), kind="stable")


PROTOCOLS = {
    # The released HMNet evaluator: what the published figures were measured with.
    "hmnet": Protocol(500_000, 30, 10, 25_000, nearest=True),
    # RVT and its successors.
    "rvt": Protocol(500_000, 30, 10, 50_000, nearest=False),
    # The unmodified Prophesee toolbox as it treats GEN1.
    "toolbox": Protocol(100_000, 30, 20, 50_000, nearest=False),
}


class Rows(NamedTuple):
    """Boxes of one recording, in any order."""

    t_us: np.ndarray  # int64 [R]
    xywh: np.ndarray  # float32 [R, 4]
    labels: np.ndarray  # int64 [R]
    scores: np.ndarray  # float32 [R]

    def take(self, rows) -> "Rows":
        return Rows(*(column[rows] for column in self))


def rows(table: np.ndarray, name: str = "boxes") -> Rows:
    """Read a structured array with t (or ts), x, y, w, h, class_id and class_confidence (or confidence).

    Labels and detections share it: scores default to 1. A missing field raises InputError naming `name`.
    """
    fields = table.dtype.names or ()

    def column(*names):
        for candidate in names:
            if candidate in fields:
                return table[candidate]
        raise InputError(
            f"{name}: no field {names[0]} among {', '.join(fields) or 'none'}; expected a table of boxes"
        )

    xywh = np.stack([column(k) for k in "xywh"], axis=-1)
    has_score = {"class_confidence", "confidence"} & set(fields)
    scores = column("class_confidence", "confidence") if has_score else np.ones(len(table), np.float32)
    return Rows(column("t", "ts").astype(np.int64), xywh, column("class_id").astype(np.int64), scores)


def match(truth: Rows, found: Rows, protocol: Protocol) -> tuple[np.ndarray, coco.Boxes, coco.Boxes]:
    """Pair one recording's labels with its detections -> (times [I], ground truth, detections).

    Each distinct time that has a label after filtering is one image; `image` of both tables indexes `times`.
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
    return times, coco.boxes(image, truth.xywh, truth.labels), coco.boxes(of_image, *found[1:])


def evaluate(
    recordings: Iterable[tuple[Rows, Rows]],
    protocol: Protocol = PROTOCOLS["hmnet"],
    class_names: Sequence[str] = CLASS_NAMES,
    backend: str = "pycocotools",
) -> coco.Metrics:
    """COCO metrics over recordings, each given as (labels, detections). Recordings without either are legal."""
    truths, founds, num_images = [], [], 0
    for truth, found in recordings:
        times, of_truth, of_found = match(truth, found, protocol)
        truths.append(of_truth._replace(image=of_truth.image + num_images))
        founds.append(of_found._replace(image=of_found.image + num_images))
        num_images += len(times)
    return coco.evaluate(coco.concatenate(truths), coco.concatenate(founds), num_images, class_names, backend)


def _keep(table: Rows, protocol):
    return protocol.keep(table.t_us, table.xywh[:, 2], table.xywh[:, 3])


def _in_time(table: Rows) -> Rows:
    return table.take(np.argsort(table.t_us, kind="stable"))
