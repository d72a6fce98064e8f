"""Speed of Seq-NMS, in a unit that is comparable between machines.

The unit is that of `timing`. The released Python code took 11 s (300 frames x 30 boxes), 335 s (1000 x 60)
and 936 s (1000 x 100), on a machine with a unit of 28.6 ms.
"""

import resource
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxdet.benchmarks import timing
from jaxdet.postprocess import overlaps, seqnms
from jaxdet.structs import Boxes

RELEASED_S = {(300, 30): 11.0, (1000, 60): 335.0, (1000, 100): 936.0}
_RELEASED_UNIT_S = 0.0286
_WIDTH, _HEIGHT = 384, 288


class SeqNmsTiming(NamedTuple):
    """Time and memory of Seq-NMS on clips of one size."""

    num_frames: int
    max_boxes: int
    mean_boxes: float
    seconds: float  # median
    unit_seconds: float  # median
    mask_megabytes: float  # for pairs of boxes, at a time
    peak_megabytes: float  # peak of the process so far

    @property
    def units(self) -> float:
        """Time in units."""
        return self.seconds / self.unit_seconds

    def __str__(self):
        released = RELEASED_S.get((self.num_frames, self.max_boxes))
        compared = f", released code {released / _RELEASED_UNIT_S:.0f} units" if released else ""
        return (
            f"{self.num_frames} x {self.max_boxes} (mean {self.mean_boxes:.0f}): {self.seconds:.2f} s, "
            f"{self.units:.1f} units of {self.unit_seconds * 1e3:.1f} ms{compared}; "
            f"pairs {self.mask_megabytes:.0f} MB, peak {self.peak_megabytes:.0f} MB"
        )


def measure(
    sizes: Sequence[tuple[int, int]] = tuple(RELEASED_S), repeats: int = 5, min_score: float = 0.5
) -> list[SeqNmsTiming]:
    """Time Seq-NMS on simulated tracks of four classes, without compilation, in turn with the unit.

    `sizes` are (frames, boxes per frame), `repeats` the runs of each.
    """
    return [_measure(num_frames, max_boxes, repeats, min_score) for num_frames, max_boxes in sizes]


def tracks(num_frames: int, max_boxes: int, num_classes: int = 4, seed: int = 0) -> list[Boxes]:
    """Simulated objects that appear, drift and leave, with duplicates, dropouts and wrong labels.

    Frames have three quarters of `max_boxes` boxes on average.
    """
    rng = np.random.default_rng(seed)
    rows: list[list] = [[] for _ in range(num_frames)]
    for _ in range(max(max_boxes // 3, 1)):
        t = -int(rng.integers(0, 60))
        while t < num_frames:
            length = int(rng.integers(10, 120))
            size, speed = rng.uniform(10, 34, 2), rng.normal(0, 0.8, 2)
            centre = rng.uniform((20, 20), (_WIDTH - 20, _HEIGHT - 20))
            label = int(rng.integers(num_classes))
            for u in range(max(t, 0), min(t + length, num_frames)):
                if rng.random() < 0.95:
                    middle = centre + speed * (u - t) + rng.normal(0, 0.5, 2)
                    box = np.concatenate([middle - size / 2, middle + size / 2])
                    own = label if rng.random() < 0.9 else int(rng.integers(num_classes))
                    rows[u].append((*box, rng.uniform(0.2, 0.95), own))
                    while rng.random() < 0.6:
                        rows[u].append((*(box + rng.normal(0, 2, 4)), rng.uniform(0.1, 0.6), label))
            t += length + int(rng.integers(0, 20))
    return [_frame(found[:max_boxes]) for found in rows]


def _frame(rows) -> Boxes:
    table = np.array(rows, np.float64).reshape(-1, 6)
    table = table[np.argsort(-table[:, 4], kind="stable")]
    return Boxes(table[:, :4].round(3), table[:, 4].round(5), table[:, 5].astype(np.int32))


def _measure(num_frames, max_boxes, repeats, min_score) -> SeqNmsTiming:
    frames = tracks(num_frames, max_boxes)
    options = seqnms.SeqNMSOptions(min_score=min_score)
    took = timing.interleaved(lambda: seqnms.run(frames, options), repeats)
    counts = [len(frame.scores) for frame in frames]
    return SeqNmsTiming(
        num_frames,
        max_boxes,
        float(np.mean(counts)),
        took.ms / 1e3,
        took.unit_ms / 1e3,
        overlaps.mask_bytes(min(num_frames, options.max_frames), max(counts, default=0)) / 1e6,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    )
