"""Pairing of labels and detections of recordings by time, for which several protocols are in use.

The protocols drop small and early boxes, then compare labels with detections near in time. They give
different numbers; `NAMES` lists them. Sizes that count as small depend on the camera, see `CAMERAS`.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from jaxdet import class_names as names_of
from jaxdet.errors import InputError
from jaxdet.evaluation import coco
from jaxdet.structs import Boxes


class Grid(NamedTuple):
    """Label times that are scored, of those that a recording has (RVT's preparation of GEN1 and 1Mpx).

    The first time from `first_us` on is kept, then each at a multiple of the step, up to `tolerance_us`, from
    the last kept one. Only labels of at least `min_diagonal` and `min_side`, pixels, give times.
    """

    step_us: int
    by_rate: bool  # True: the step is the whole number of median label distances nearest to `step_us`
    min_diagonal: float
    min_side: float
    first_us: int = 100_000
    tolerance_us: int = 2_000


class Protocol(NamedTuple):
    """Settings of one evaluator of recordings.

    Labels and detections alike take part only if they are later than `skip_us` and reach both sizes.
    """

    skip_us: int  # boxes up to and including this time are dropped
    min_diagonal: float  # pixels
    min_side: float  # pixels
    tolerance_us: int
    # nearest: the single nearest output that has a box, closer than the tolerance; within: all outputs within
    # it, limits included; last: the output at the label's time, else the last within the tolerance before.
    answer: Literal["nearest", "within", "last"]
    min_score: float = 0.0  # of detections
    grid: Grid | None = None  # None: all label times are scored
    scored: tuple[str, ...] | None = None  # class names, if the labels have any of them; None: all
    name: str = "own settings"
    camera: str = ""  # empty: no camera's rules
    guessed: bool = False  # True: the camera was taken from the labels

    def keep(self, t_us, width, height) -> np.ndarray:
        """Mask [R] of the boxes that take part, from their times and sizes [R] in pixels.

        Sizes are compared in the precision of the input.
        """
        big = width**2 + height**2 >= self.min_diagonal**2
        return (t_us > self.skip_us) & big & (width >= self.min_side) & (height >= self.min_side)

    def candidates(self, t_us: int, times) -> np.ndarray:
        """Indices into the ascending `times` that a label at `t_us` can be compared with, best first.

        `nearest` sorts by distance, the earlier first of two equally near; `within` by time; `last` gives
        one.
        """
        times = np.asarray(times)
        if self.answer == "last":
            first, last = np.searchsorted(times, [t_us - self.tolerance_us, t_us + 1])
            return np.arange(max(first, last - 1), last)
        if self.answer == "within":
            first, last = np.searchsorted(times, [t_us - self.tolerance_us, t_us + self.tolerance_us + 1])
            return np.arange(first, last)
        first, last = np.searchsorted(times, [t_us - self.tolerance_us + 1, t_us + self.tolerance_us])
        return first + np.argsort(np.abs(times[first:last] - t_us), kind="stable")

    def scores_class(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """Those of the class names that are scored; all if none is known to the protocol."""
        if self.scored is None:
            return tuple(class_names)
        known = {_plain(name) for name in self.scored}
        return tuple(name for name in class_names if _plain(name) in known) or tuple(class_names)

    @property
    def title(self) -> str:
        """Name and camera, for people."""
        camera = f", camera {self.camera}" if self.camera else ""
        return f"{self.name}{camera}{' (guessed from the labels)' if self.guessed else ''}"

    @property
    def rule(self) -> str:
        """Filters and pairing in words."""
        ms = self.tolerance_us // 1000
        pairing = {
            "nearest": f"nearest output within {ms} ms",
            "within": f"all outputs within {ms} ms",
            "last": f"one output a label time, up to {ms} ms before",
        }[self.answer]
        score = f", score from {self.min_score:g}" if self.min_score else ""
        return (
            f"{pairing}; boxes after {self.skip_us / 1e6:g} s, diagonal from {self.min_diagonal:g}, "
            f"sides from {self.min_side:g} px{score}"
        )


# Names of the evaluators: the released HMNet's, which gave the published numbers; the Prophesee toolbox as it
# treats GEN1; every output near a label; RVT and its successors; eTraM's, which is RVT's for 1Mpx; and all
# boxes of DSEC-Det, one output for the 50 ms before an image.
NAMES = ("hmnet", "toolbox", "window50", "rvt", "etram", "dsec-det")


class Camera(NamedTuple):
    """Rules that depend on the camera."""

    min_diagonal: float  # pixels, of boxes in the evaluation
    min_side: float
    grid: Grid  # of protocol `rvt`
    scored: tuple[str, ...] | None = None  # by `rvt`


# A half of 1Mpx has 640 x 360 pixels. RVT drops sides below 5 pixels before it halves the boxes of 1Mpx.
CAMERAS = {
    "gen1": Camera(30, 10, Grid(250_000, False, 30, 10)),
    "1mpx": Camera(60, 20, Grid(100_000, True, 0, 5), names_of.ONEMPX[:3]),
    "1mpx_half": Camera(30, 10, Grid(100_000, True, 0, 2.5), names_of.ONEMPX[:3]),
}


def of(name: str, camera: str = "gen1", guessed: bool = False) -> Protocol:
    """The protocol of a name among `NAMES` for a camera among `CAMERAS`; `guessed` is said beside it."""
    if name not in NAMES:
        raise InputError(f"protocol {name!r}; expected one of {', '.join(NAMES)}")
    if camera not in CAMERAS:
        raise InputError(f"camera {camera!r}; expected one of {', '.join(CAMERAS)}")
    if name == "dsec-det":
        # Its papers name no filter of sizes or times that is established.
        return Protocol(0, 0, 0, 50_000, "last", name=name)
    if name == "etram" and camera == "gen1":
        camera = "1mpx_half"  # the sensor of eTraM has 1280 x 720 pixels, so small boxes are halved ones
    return _settings(name, camera)._replace(name=name, camera=camera, guessed=guessed)


def _settings(name: str, camera: str) -> Protocol:
    rules = CAMERAS[camera]
    sizes = (rules.min_diagonal, rules.min_side)
    if name == "hmnet":
        return Protocol(500_000, *sizes, 25_000, "nearest")
    if name == "window50":
        return Protocol(500_000, *sizes, 50_000, "within")
    if name == "toolbox":
        skip_us = 100_000 if camera == "gen1" else 500_000
        side = 20 if camera == "gen1" else rules.min_side
        return Protocol(skip_us, rules.min_diagonal, side, 50_000, "within")
    return Protocol(500_000, *sizes, 50_000, "last", 0.001, rules.grid, rules.scored)


def for_labels(name: str, labels: Iterable[Boxes], camera: str | None = None) -> Protocol:
    """The protocol of a name, for `camera` or for the one that the labels fit.

    Labels whose centres lie within 304 x 240 pixels are taken for GEN1's, within 640 x 480 for those of half
    of 1Mpx, and others for 1Mpx: boxes may reach beyond the picture, their centres hardly do.
    """
    if camera is not None:
        return of(name, camera)
    centres = [(boxes.xyxy[:, :2] + boxes.xyxy[:, 2:]).max(0) / 2 for boxes in labels if len(boxes)]
    x, y = np.max(centres, 0) if centres else (0, 0)
    guess = "gen1" if x < 304 and y < 240 else "1mpx_half" if x < 640 and y < 480 else "1mpx"
    return of(name, guess, guessed=True)


def _plain(class_name: str) -> str:
    return class_name.lower().replace("-", " ").replace("_", " ")


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


def match(
    truth: Rows, found: Rows, protocol: Protocol, outputs: Sequence[int] = ()
) -> tuple[np.ndarray, coco.Table, coco.Table]:
    """Pair one recording's labels with its detections -> (times [I], ground truth, detections).

    Each distinct time that has a label after filtering counts as one image; `image` of both tables indexes
    `times`, int64 us. `outputs` are times of outputs, with and without boxes: an output without a box is an
    answer too where a protocol takes the last one.
    """
    truth = _in_time(truth.take(_keep(truth, protocol)))
    kept = _keep(found, protocol) & (found.scores >= protocol.min_score)
    stamps = np.unique(found.t_us[kept])
    if protocol.answer == "last":
        stamps = np.unique(np.concatenate((found.t_us, np.array(outputs, np.int64))))
    found = _in_time(found.take(kept))
    times, image = np.unique(truth.t_us, return_inverse=True)
    first = np.searchsorted(found.t_us, stamps).tolist()
    last = np.searchsorted(found.t_us, stamps, side="right").tolist()
    chosen, of_image = [], []
    for index, t_us in enumerate(times):
        near = protocol.candidates(int(t_us), stamps)
        for stamp in near if protocol.answer == "within" else near[:1]:
            chosen.append(np.arange(first[stamp], last[stamp]))
            of_image.append(np.full(len(chosen[-1]), index))
    found = found.take(np.concatenate(chosen) if chosen else np.zeros(0, np.int64))
    of_image = np.concatenate(of_image) if of_image else np.zeros(0, np.int64)
    return times, coco.table(image, truth.xywh, truth.labels), coco.table(of_image, *found[1:])


def _keep(table: Rows, protocol):
    return protocol.keep(table.t_us, table.xywh[:, 2], table.xywh[:, 3])


def _in_time(table: Rows) -> Rows:
    return table.take(np.argsort(table.t_us, kind="stable"))
