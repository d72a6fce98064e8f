"""Tracks: an identity over time for the boxes of a clip, video or recording, frame after frame.

Every track has a Kalman filter with constant velocity of the centre and the sides. Boxes of a frame are
assigned to the predicted boxes of tracks of their class by IoU (Hungarian method), sure boxes first, unsure
ones to the tracks that are left (Zhang et al., ByteTrack, ECCV 2022). A sure box without a track begins one.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from jaxdet.errors import InputError
from jaxdet.structs import Boxes

# Standard deviations as parts of the sides of a box: of a measurement, and of what a frame adds.
_MEASURED, _MOVED, _SPED = 1 / 20, 1 / 20, 1 / 80


@dataclass(frozen=True)
class TrackOptions:
    """Settings of `Tracker`."""

    new_score: float = 0.3  # boxes from this score on are sure and begin tracks
    min_score: float = 0.1  # boxes below take part in no track
    min_iou: float = 0.2  # of a box with the prediction of its track
    max_gap: float | int = 30  # frames without a box after which a track ends

    def check(self) -> "TrackOptions":
        """The options; InputError for values that make no sense."""
        if not 0 <= self.min_score <= self.new_score <= 1:
            raise InputError(
                f"tracks from scores {self.min_score} and {self.new_score}, expected 0 <= min <= new <= 1"
            )
        if not 0 < self.min_iou < 1 or self.max_gap < 0:
            raise InputError(
                f"tracks with IoU {self.min_iou} and gaps of {self.max_gap}, expected 0 < IoU < 1, gaps >= 0"
            )
        return self


class _Tracks:
    """State of T tracks: means [T, 2, 4] (centre and sides, their velocities) and covariances [T, 4, 2, 2].

    The four coordinates are filtered apart, each with its velocity.
    """

    def __init__(self):
        self.mean, self.covariance = np.zeros((0, 2, 4)), np.zeros((0, 4, 2, 2))
        self.ids, self.labels = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.seen = np.zeros(0)  # time of the last box

    def select(self, rows: np.ndarray) -> None:
        for name in ("mean", "covariance", "ids", "labels", "seen"):
            setattr(self, name, getattr(self, name)[rows])

    def predict(self, frames: float | int) -> None:
        """Move all tracks on by a time in frames."""
        self.mean[:, 0] += frames * self.mean[:, 1]
        self.mean[:, 0, 2:] = np.maximum(self.mean[:, 0, 2:], 1e-3)
        step = np.array([[1.0, frames], [0.0, 1.0]])
        noise = np.zeros_like(self.covariance)
        noise[..., 0, 0], noise[..., 1, 1] = (
            frames * (part * self._sides()) ** 2 for part in (_MOVED, _SPED)
        )
        self.covariance = step @ self.covariance @ step.T + noise

    def correct(self, rows: np.ndarray, measured: np.ndarray) -> None:
        """Take measurements [R, 4] of centre and sides into the tracks `rows`."""
        spread = (_MEASURED * self._sides()[rows]) ** 2
        gain = self.covariance[rows][..., 0] / (self.covariance[rows][..., 0, :1] + spread[..., None])
        error = measured - self.mean[rows, 0]
        self.mean[rows] += np.swapaxes(gain * error[..., None], 1, 2)
        self.covariance[rows] -= gain[..., None] * self.covariance[rows][..., :1, :]

    def add(self, measured: np.ndarray, labels: np.ndarray, ids: np.ndarray, now: float | int) -> None:
        """Begin tracks at rest at measurements [R, 4]."""
        mean = np.stack([measured, np.zeros_like(measured)], 1)
        self.mean = np.concatenate([self.mean, mean])
        self.labels = np.concatenate([self.labels, labels])
        self.ids = np.concatenate([self.ids, ids])
        self.seen = np.concatenate([self.seen, np.full(len(ids), now)])
        covariance = np.zeros((len(ids), 4, 2, 2))
        sides = np.concatenate([measured[:, 2:], measured[:, 2:]], 1)
        # Velocities are unknown at first: ten times the noise of the filter.
        covariance[..., 0, 0], covariance[..., 1, 1] = (2 * _MEASURED * sides) ** 2, (10 * _SPED * sides) ** 2
        self.covariance = np.concatenate([self.covariance, covariance])

    def corners(self) -> np.ndarray:
        """Predicted boxes [T, 4], xyxy."""
        centre, sides = self.mean[:, 0, :2], self.mean[:, 0, 2:]
        return np.concatenate([centre - sides / 2, centre + sides / 2], 1)

    def _sides(self) -> np.ndarray:
        return np.concatenate([self.mean[:, 0, 2:], self.mean[:, 0, 2:]], 1)


class Tracker:
    """Gives the boxes of one clip an identity, one frame after another.

    A call returns the boxes with `track_ids`: numbers from 1 on, -1 for boxes of no track.
    """

    def __init__(self, options: TrackOptions | None = None, first_id: int = 1):
        self._options = (options or TrackOptions()).check()
        self._tracks, self._now, self.next_id = _Tracks(), None, first_id

    def __call__(self, boxes: Boxes, now: float | int) -> Boxes:
        """Boxes of the frame at `now`, in frames (fractions allowed); InputError unless time goes on."""
        if self._now is not None and now <= self._now:
            raise InputError(
                f"{boxes.source}: frame {now:g} after {self._now:g}; tracks need frames in order of time"
            )
        tracks, options = self._tracks, self._options
        tracks.predict(0.0 if self._now is None else now - self._now)
        self._now = now
        tracks.select(now - tracks.seen <= options.max_gap + 1)
        corners = boxes.xyxy.astype(np.float64)
        measured = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
        usable = (measured[:, 2:] > 0).all(1)
        sure = usable & (boxes.scores >= options.new_score)
        unsure = usable & ~sure & (boxes.scores >= options.min_score)
        ids, free = np.full(len(boxes), -1, np.int64), np.ones(len(tracks.ids), bool)
        for chosen in (sure, unsure):
            rows, columns = np.flatnonzero(chosen), np.flatnonzero(free)
            pairs = self._assign(corners[rows], boxes.labels[rows], columns)
            taken, of = rows[pairs[0]], columns[pairs[1]]
            ids[taken], free[of], tracks.seen[of] = tracks.ids[of], False, now
            tracks.correct(of, measured[taken])
        new = np.flatnonzero(sure & (ids < 0))
        ids[new] = np.arange(self.next_id, self.next_id + len(new))
        self.next_id += len(new)
        tracks.add(measured[new], boxes.labels[new].astype(np.int64), ids[new], now)
        return replace(boxes, track_ids=ids)

    def _assign(self, corners: np.ndarray, labels: np.ndarray, columns: np.ndarray):
        """Pairs of boxes and tracks (`columns`) of one class that overlap enough, with the greatest sum of
        IoU."""
        predicted = self._tracks.corners()[columns]
        low = np.maximum(corners[:, None, :2], predicted[None, :, :2])
        high = np.minimum(corners[:, None, 2:], predicted[None, :, 2:])
        inner = np.maximum(high - low, 0).prod(-1)
        areas = [(part[:, 2:] - part[:, :2]).prod(-1) for part in (corners, predicted)]
        iou = inner / np.maximum(areas[0][:, None] + areas[1][None] - inner, 1e-12)
        same = labels[:, None] == self._tracks.labels[columns][None]
        iou = np.where(same & (iou >= self._options.min_iou), iou, 0.0)
        rows, found = linear_sum_assignment(-iou)
        real = iou[rows, found] > 0
        return rows[real], found[real]


class Trackers:
    """Tracks of many clips, of which each keeps its own; identities are unique over all of them."""

    def __init__(self, options: TrackOptions | None = None):
        self._options, self._clip, self._tracker = options, None, Tracker(options)
        self._done: set[str] = set()

    def __call__(self, boxes: Boxes, clip: str, now: float | int) -> Boxes:
        """Boxes of a frame of `clip` at `now`, in frames; the frames of a clip must follow each other."""
        if clip != self._clip:
            if clip in self._done:
                raise InputError(f"frames of {clip} are split by another clip; sort them by clip and number")
            self._done.add(clip)
            self._clip, self._tracker = clip, Tracker(self._options, self._tracker.next_id)
        return self._tracker(boxes, now)
