"""Training windows of GEN1-like recordings, and the labelled steps in each.

Times of labels are in microseconds, window starts and lengths in milliseconds. Source: released HMNet.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxdet.data.events import affine, augment

MIN_DIAGONAL = 30  # pixels; smaller boxes are present but not scored
MIN_SIDE = 10  # pixels


class Samples(NamedTuple):
    """One entry per recording and distinct millisecond that holds a label."""

    recording: np.ndarray  # int32 [S]
    label_ms: np.ndarray  # int32 [S]


class Labels(NamedTuple):
    """Labelled steps of a window; step i has the rows `row_start[i] : row_start[i + 1]`, possibly none."""

    steps: np.ndarray  # int32 [L]      ascending
    row_start: np.ndarray  # int32 [L + 1]
    boxes: np.ndarray  # int64 [R, 4]   xyxy, input pixels
    classes: np.ndarray  # int32 [R]
    ignore: np.ndarray  # bool [R]
    num_outside: int = 0  # boxes of the window that an affine map took off the sensor

    def between(self, low: int, high: int) -> "Labels":
        """The labelled steps from `low` to before `high`, still counted from the window's start."""
        first, last = np.searchsorted(self.steps, (low, high))
        rows = slice(self.row_start[first], self.row_start[last])
        row_start = self.row_start[first : last + 1] - self.row_start[first]
        return Labels(
            self.steps[first:last], row_start, self.boxes[rows], self.classes[rows], self.ignore[rows]
        )


def sample_list(label_times: Sequence[np.ndarray]) -> Samples:
    """List the samples of recordings with labels at `label_times` (microseconds, one array per recording)."""
    milliseconds = [np.unique(np.asarray(times) // 1000).astype(np.int32) for times in label_times]
    recording = np.repeat(np.arange(len(milliseconds), dtype=np.int32), [len(m) for m in milliseconds])
    return Samples(recording, np.concatenate([*milliseconds, np.zeros(0, np.int32)]))


def window_starts(label_ms: int, window_ms: int, duration_ms: int) -> tuple[int, int]:
    """Inclusive range of first milliseconds that put the label into the last quarter of the window.

    If the recording has no such window, the range holds the nearest start only.
    """
    reach = window_ms - 1
    low = max(0, label_ms - reach)
    high = min(duration_ms - window_ms, label_ms - reach + int(0.25 * reach))
    if low <= high:
        return low, high
    nearest = 0 if low == 0 else high
    return nearest, nearest


def window_labels(
    labels: np.ndarray,
    interval_us: int,
    start_ms: int,
    window_ms: int,
    step_us: int,
    view: augment.SensorView | None = None,
    warp: affine.AffineMap | None = None,
) -> Labels:
    """Labelled steps of the window, with boxes in the pixels of `view`, before which comes `warp`.

    `labels` are structured rows (t, x, y, w, h, class_id, invalid) of a recording and `interval_us` is its
    label interval. Frames without boxes are completed on the grid of the interval, so they count as labelled
    negatives. If the crop removed every box the grid restarts at the window's start (parity).
    """
    start_us, window_us = 1000 * start_ms, 1000 * window_ms
    time = labels["t"].astype(np.int64) - start_us
    rows = labels[(time >= 0) & (time < window_us + interval_us) & ~labels["invalid"]]
    rows = rows[np.argsort(rows["t"], kind="stable")]
    times = rows["t"].astype(np.int64) - start_us
    classes = rows["class_id"].astype(np.int32)
    boxes = integer_boxes(rows)
    num_outside = 0
    if warp is not None:
        hulls, keep = affine.map_boxes(warp, boxes)
        num_outside = int((~keep & (times < window_us)).sum())
        # Labels of HMNet are whole pixels.
        boxes, times, classes = np.rint(hulls).astype(np.int64), times[keep], classes[keep]
    if view is not None:
        boxes, keep = augment.map_boxes(boxes, view)
        times, classes = times[keep], classes[keep]
    markers = frame_times(times, window_us, interval_us)
    found = _by_step(times, markers, boxes, classes, window_us, step_us)
    return found._replace(num_outside=num_outside)


def integer_boxes(rows: np.ndarray) -> np.ndarray:
    """Boxes of label rows as int64 xyxy [M, 4]: x, y, w and h are truncated one by one (parity)."""
    x, y, w, h = (rows[field].astype(np.int64) for field in "xywh")
    return np.stack([x, y, x + w, y + h], 1)


def ignored(boxes: np.ndarray) -> np.ndarray:
    """Mask bool [M] of the boxes [M, 4] (xyxy, pixels) that are too small to be scored."""
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return (w * w + h * h < MIN_DIAGONAL**2) | (np.minimum(w, h) < MIN_SIDE)


def frame_times(times: np.ndarray, window_us: int, interval_us: int) -> np.ndarray:
    """Times of the annotated frames of a window with labels at `times` (ascending, relative to its start).

    A frame lies on the nominal grid through the first label and takes the time of its first label, if it has
    one. The last frames may lie after the window, up to one interval.
    """
    horizon = window_us + interval_us
    if not len(times):
        return np.arange(0, horizon, interval_us)
    phase = int(times[0]) % interval_us
    frames = np.arange(phase, horizon, interval_us)
    nearest = (times - int(phase - interval_us / 2)) // interval_us
    index, first = np.unique(nearest, return_index=True)
    real = index < len(frames)
    frames[index[real]] = times[first[real]]
    return frames


def _by_step(
    times: np.ndarray,
    markers: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    window_us: int,
    step_us: int,
) -> Labels:
    """Group rows and frame markers by step; of a step only the rows at its last time survive."""
    row = np.concatenate([np.arange(len(times)), np.full(len(markers), -1)])
    times = np.concatenate([times, markers])
    inside = times < window_us
    order = np.argsort(times[inside], kind="stable")
    times, row = times[inside][order], row[inside][order]
    step = times // step_us
    last = times[np.searchsorted(step, step, side="right") - 1]
    kept = (row >= 0) & (times == last)
    steps = np.unique(step)
    row_start = np.searchsorted(step[kept], np.append(steps, window_us)).astype(np.int32)
    row = row[kept]
    return Labels(steps.astype(np.int32), row_start, boxes[row], classes[row], ignored(boxes[row]))
