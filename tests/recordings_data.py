"""Small prepared recordings and the data block that reads them."""

from types import SimpleNamespace

import numpy as np

from jaxdet.data.events import recordings
from jaxdet.data.events.streams import EventChunk

WIDTH, HEIGHT = 32, 24


def chunk(rng, num, duration_ms, width=WIDTH, height=HEIGHT):
    """`num` random events in order of time."""
    return EventChunk(
        np.sort(rng.integers(0, 1000 * duration_ms, num)),
        rng.integers(0, width, num).astype(np.int16),
        rng.integers(0, height, num).astype(np.int16),
        rng.integers(0, 2, num).astype(np.int8),
    )


def labels(times_us, rng=None):
    """Two boxes at each time, the second too small to be scored."""
    rows = np.zeros(2 * len(times_us), recordings.LABEL_DTYPE)
    rows["t"] = np.repeat(times_us, 2)
    rows["x"], rows["y"] = 2.5, 1.5
    rows["w"], rows["h"] = np.tile([28, 5], len(times_us)), np.tile([20, 5], len(times_us))
    rows["class_id"] = np.tile([0, 1], len(times_us))
    return rows


def write(
    root,
    split,
    name,
    events,
    label_rows,
    duration_ms,
    interval_us=50_000,
    size=(WIDTH, HEIGHT),
    start_us=0,
):
    """Write one prepared recording and return its folder."""
    path = root / split / name
    info = {
        "width": size[0],
        "height": size[1],
        "duration_ms": duration_ms,
        "label_interval_us": interval_us,
        "start_us": start_us,
    }
    recordings.write(
        path, recordings.pack(events), recordings.index(events.t_us, duration_ms), label_rows, info
    )
    return path


def make_set(root, num=3, duration_ms=600, events_each=4000, split="train"):
    """`num` recordings with labels every 50 ms from 200 ms on."""
    for i in range(num):
        rng = np.random.default_rng(i)
        times = np.arange(200_000, 1000 * duration_ms, 50_000) + 1000 * i
        write(root, split, f"r{i}", chunk(rng, events_each, duration_ms), labels(times), duration_ms)


def config(path, **changes):
    """A data block for `make_set`: windows of 200 ms in one segment."""
    block = {
        "kind": "events",
        "root": str(path),
        "height": HEIGHT,
        "width": WIDTH,
        "step_us": 5000,
        "window_ms": 200,
        "segment_ms": 200,
        "batch_size": 4,
        "event_buckets": (512, 1024, 2048, 4096),
        "max_boxes": 4,
        "max_slots": 4,
        "augment": True,
        "warmup": "segment",
        "workers": 0,
        "skip_corrupt": False,
        "overfit": 0,
        "seed": 7,
    }
    return SimpleNamespace(**{**block, **changes})
