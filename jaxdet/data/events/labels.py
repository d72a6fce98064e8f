"""Box labels of event recordings: their validity, their interval in time, and counts of suspicious ones."""

import numpy as np

from jaxdet.data.events.recordings import LABEL_DTYPE

MAX_INTERVAL_US = 1_000_000


def from_boxes(boxes: np.ndarray, width: int, height: int, whole_side: bool = False) -> np.ndarray:
    """Convert BOX_DTYPE boxes [M] to LABEL_DTYPE labels [M] in order of time; equal times keep their order.

    A label is `invalid` if its box, clipped to the sensor of `width` x `height` pixels, has no area or spans
    the whole width or height, unless `whole_side` allows that. The coordinates themselves are not clipped.
    """
    labels = np.zeros(len(boxes), LABEL_DTYPE)
    for name in boxes.dtype.names or ():
        labels[name] = boxes[name]
    x1, y1 = np.clip(boxes["x"], 0, width), np.clip(boxes["y"], 0, height)
    w = np.clip(boxes["x"] + boxes["w"], 0, width) - x1
    h = np.clip(boxes["y"] + boxes["h"], 0, height) - y1
    # Written so that NaN counts as invalid.
    labels["invalid"] = ~((w > 0) & (h > 0) & (whole_side | ((w != width) & (h != height))))
    return labels[np.argsort(labels["t"], kind="stable")]


def counted_from(labels: np.ndarray, start_us: int) -> tuple[np.ndarray, int]:
    """Labels with times from `start_us` on, counted from there, and the number of earlier ones left out."""
    late = labels["t"].astype(np.int64) >= start_us
    kept = labels[late]
    kept["t"] -= np.uint64(start_us)
    return kept, int((~late).sum())


def counted_until(labels: np.ndarray, end_us: int) -> tuple[np.ndarray, int]:
    """Labels up to `end_us`, and the number of later ones left out; a time may be one of another clock."""
    kept = labels[labels["t"] <= np.uint64(end_us)]
    return kept, len(labels) - len(kept)


def interval_us(labels: np.ndarray) -> int:
    """Smallest distance between two label times in microseconds, at most (and by default) one second."""
    steps = np.diff(np.unique(labels["t"]))
    return int(min(steps.min(), MAX_INTERVAL_US)) if len(steps) else MAX_INTERVAL_US


def thinned(labels: np.ndarray, interval_us: int, every: int) -> tuple[np.ndarray, int]:
    """Every `every`-th labelled time of a recording, from its first on, and the number of times left out.

    `labels` have times on a grid of `interval_us` or near it; a frame without boxes counts as well, so that
    the kept ones lie on a grid of `every * interval_us`.
    """
    times = labels["t"].astype(np.int64)
    if every == 1 or not len(times):
        return labels, 0
    frames = np.round((times - times.min()) / interval_us).astype(np.int64)
    kept = labels[frames % every == 0]
    return kept, len(np.unique(times)) - len(np.unique(kept["t"]))


def suspicious(
    boxes: np.ndarray, labels: np.ndarray, duration_ms: int, num_classes: int = 2
) -> dict[str, int]:
    """Count suspicious boxes by reason; only reasons that occur are listed.

    `boxes` are BOX_DTYPE as they were read, `labels` are the same after `from_boxes`.
    """
    numbers = np.stack([labels[k] for k in ("x", "y", "w", "h", "confidence")])
    # Without track ids only equal boxes are known to be the same object.
    tracked = labels["track_id"].any()
    keys = np.unique(labels[["t", "track_id"] if tracked else ["t", "class_id", "x", "y", "w", "h"]])
    counts = {
        "invalid": int(labels["invalid"].sum()),
        "not finite": int((~np.isfinite(numbers)).any(0).sum()),
        "without area": int(((labels["w"] <= 0) | (labels["h"] <= 0)).sum()),
        "of an unknown class": int((labels["class_id"] >= num_classes).sum()),
        "after the end": int((labels["t"] >= duration_ms * 1000).sum()),
        "twice at one time": len(labels) - len(keys),
        "out of order": int((np.diff(boxes["t"].astype(np.int64)) < 0).sum()),
    }
    return {reason: count for reason, count in counts.items() if count}
