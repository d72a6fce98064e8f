"""A film of a labelled recording: truth and prediction beside each other, and scores over time below."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from jaxdet.structs import Boxes
from jaxdet.viewing import drawing

_SCALE, _GAP, _STRIP = 2, 4, 80  # factor of the pictures; pixels
_TEXT = (200, 200, 200)
_COLOURS = ((64, 200, 255), (120, 255, 120), (255, 160, 80))


class Truth:
    """Labels of a recording at any time: those of a track are linear between two label times.

    `labels` are LABEL_DTYPE; a track is shown up to `reach_us` before its first and after its last label.
    """

    def __init__(self, labels: np.ndarray, reach_us: int):
        self._tracks = []
        for track in np.unique(labels["track_id"]):
            rows = labels[(labels["track_id"] == track) & ~labels["invalid"]]
            if len(rows):
                corners = [rows["x"], rows["y"], rows["x"] + rows["w"], rows["y"] + rows["h"]]
                self._tracks.append((rows["t"].astype(np.int64), corners, int(rows["class_id"][0])))
        self._reach_us = reach_us

    def at(self, t_us: int) -> Boxes:
        """Boxes at `t_us`, microseconds from the start of the recording."""
        found = []
        for times, corners, label in self._tracks:
            nearest = np.abs(times - t_us).min()
            if nearest <= self._reach_us:
                found.append(([float(np.interp(t_us, times, side)) for side in corners], label))
        xyxy = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
        return Boxes(xyxy, np.ones(len(found), np.float32), np.array([n for _, n in found], np.int32))


class Film:
    """Writes the pictures; `size` is (height, width) of the sensor, `duration_us` that of the recording."""

    def __init__(
        self,
        sink: drawing.Sink,
        truth: Truth,
        size: tuple[int, int],
        duration_us: int,
        class_names: Sequence[str],
        min_score: float,
    ):
        self._sink, self._truth, self._size, self._names = sink, truth, size, class_names
        self._duration_us, self._min_score = duration_us, min_score
        self._strip = np.full((_STRIP, 2 * _SCALE * size[1] + _GAP, 3), 30, np.uint8)
        level = self._row(min_score)
        self._strip[level, ::4] = 90
        cv2.putText(self._strip, "score", (2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _TEXT, 1, cv2.LINE_AA)
        self._events = drawing.event_frame([], [], [], size)
        # Number of true boxes, and the latest picture with the most: chosen whatever was found on it, and not
        # among the first, before which the detector has seen nothing.
        self.best: tuple[int, np.ndarray] | None = None

    def add(self, x, y, polarity, boxes: Boxes, t_us: int, ends: bool) -> None:
        """Add a step up to `t_us`: its events [N], its boxes; a picture `ends` with it or goes on."""
        drawing.add_events(self._events, x, y, polarity)
        column = min(int(t_us / self._duration_us * self._strip.shape[1]), self._strip.shape[1] - 1)
        for score, label in zip(boxes.scores, boxes.labels, strict=True):
            row = self._row(float(score))
            self._strip[row : row + 2, column : column + 2] = _COLOURS[int(label) % len(_COLOURS)]
        if not ends:
            return
        true = self._truth.at(t_us)
        truth = drawing.draw(self._events, true, self._names, _SCALE, scores=False)
        found = drawing.draw(self._events, boxes, self._names, _SCALE, self._min_score)
        for picture, title in ((truth, "truth"), (found, f"prediction, score from {self._min_score:g}")):
            at = (6, picture.shape[0] - 8)
            cv2.putText(picture, title, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, _TEXT, 1, cv2.LINE_AA)
        gap = np.full((truth.shape[0], _GAP, 3), 90, np.uint8)
        picture = np.vstack([np.hstack([truth, gap, found]), self._strip])
        if self.best is None or len(true) >= self.best[0]:
            self.best = len(true), picture
        self._sink(picture, int((boxes.scores >= self._min_score).sum()))
        self._events = drawing.event_frame([], [], [], self._size)

    def write_best(self, path: Path) -> None:
        """Write the latest picture with the most true boxes."""
        if self.best is not None:
            drawing.write_picture(path, self.best[1])

    @staticmethod
    def _row(score: float) -> int:
        return round((1 - score) * (_STRIP - 4)) + 1
