"""Box labels of event recordings: which are invalid, which look wrong, how far apart they are in time."""

import numpy as np

from jaxdet.data.events.recordings import LABEL_DTYPE

MAX_INTERVAL_US = 1_000_000


def from_boxes(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """BOX_DTYPE boxes -> LABEL_DTYPE labels in order of time (ties as they were).

    `invalid`: nothing is left of the box inside the sensor, or it spans the whole width or height of it.
    Coordinates stay unclipped.
    """
    labels = np.zeros(len(boxes), LABEL_DTYPE)
    for name in boxes.dtype.names or ():
        labels[name] = boxes[name]
    x1, y1 = np.clip(boxes["x"], 0, width), np.clip(boxes["y"], 0, height)
    w = np.clip(boxes["x"] + boxes["w"], 0, width) - x1
    h = np.clip(boxes["y"] + boxes["h"], 0, height) - y1
    # Written so that NaN counts as invalid.
    labels["invalid"] = ~((w > 0) & (h > 0) & (w != width) & (h != height))
    return labels[np.argsort(labels["t"], kind="stable")]


def interval_us(labels: np.ndarray) -> int:
    """Smallest distance between two label times in microseconds, at most one second; one second if fewer than two."""
    steps = np.diff(np.unique(labels["t"]))
    return int(min(steps.min(), MAX_INTERVAL_US)) if len(steps) else MAX_INTERVAL_US


def suspicious(
    boxes: np.ndarray, labels: np.ndarray, duration_ms: int, num_classes: int = 2
) -> dict[str, int]:
    """How many boxes are odd in each way; only ways that occur.

    `boxes` as they were read, `labels` the same after `from_boxes`.
    """
    numbers = np.stack([labels[k] for k in ("x", "y", "w", "h", "confidence")])
    keys = np.stack([labels["t"].astype(np.int64), labels["track_id"].astype(np.int64)], 1)
    counts = {
        "invalid": int(labels["invalid"].sum()),
        "not finite": int((~np.isfinite(numbers)).any(0).sum()),
        "without area": int(((labels["w"] <= 0) | (labels["h"] <= 0)).sum()),
        "of an unknown class": int((labels["class_id"] >= num_classes).sum()),
        "after the end": int((labels["t"] >= duration_ms * 1000).sum()),
        "twice at one time": len(keys) - len(np.unique(keys, axis=0)),
        "out of order": int((np.diff(boxes["t"].astype(np.int64)) < 0).sum()),
    }
    return {reason: count for reason, count in counts.items() if count}
