"""Padded batches of windows: events are sorted and packed into a bucket, labelled steps into slots.

Everything is written straight into the arrays of the batch; a lane is filled by `put_events` and
`put_labels`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import numpy as np

from jaxdet.data.events.affine import AffinePixels
from jaxdet.data.events.augment import PixelMap
from jaxdet.data.events.samples import Labels
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError
from jaxdet.structs import Batch, Events, Targets

_BUCKET_UNIT = 8192  # of the bucket that is proposed


def bucket(num_events: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that holds `num_events`, or the largest bucket if they exceed it."""
    return min((b for b in buckets if b >= num_events), default=max(buckets))


def overflow(counts: np.ndarray, buckets: Sequence[int], span_ms: int) -> str:
    """Sentence on the events that the largest bucket cannot hold, and the buckets that would; "" if all fit.

    `counts` are the events of each segment of `span_ms`. A few more are left out, since steps are cut to one
    length.
    """
    largest = max(buckets)
    over = counts[counts > largest]
    if not len(over):
        return ""
    enough = -(-int(over.max()) // _BUCKET_UNIT) * _BUCKET_UNIT
    wider = ",".join(str(b) for b in [*sorted(buckets), enough])
    return (
        f"at least {int((over - largest).sum())} of {int(counts.sum())} events will be left out, of "
        f"{len(over)} of {len(counts)} segments of {span_ms} ms: "
        f"the largest of data.event_buckets is {largest}; "
        f"--config.data.event_buckets={wider} holds them all"
    )


def empty(num_lanes: int, num_events: int, num_steps: int, num_slots: int, num_boxes: int) -> Batch:
    """A batch of lanes that hold nothing: no event, no slot, reset true."""
    boxes = (num_lanes, num_slots, num_boxes)
    return Batch(
        Events(
            xy=np.zeros((num_lanes, num_events, 2), np.float32),
            t_us=np.zeros((num_lanes, num_events), np.int16),
            polarity=np.zeros((num_lanes, num_events), np.int8),
            step_start=np.zeros((num_lanes, num_steps + 1), np.int32),
        ),
        Targets(
            boxes=np.zeros((*boxes, 4), np.float32),
            labels=np.zeros(boxes, np.int32),
            box_mask=np.zeros(boxes, bool),
            ignore_mask=np.zeros(boxes, bool),
            at_step=np.zeros((num_lanes, num_slots), np.int32),
            slot_mask=np.zeros((num_lanes, num_slots), bool),
        ),
        reset=np.ones(num_lanes, bool),
        source=np.full((num_lanes, num_slots, 2), -1, np.int32),
    )


def put_events(
    batch: Batch, lane: int, raw: EventChunk, start_us: int, pixels: PixelMap | AffinePixels, step_us: int
) -> int:
    """Write the events of one segment, which starts at `start_us`, into a lane of `batch`.

    Events are sorted by step, then by 4 x 4 window, then by time. Events that `pixels` crops away are not
    counted. If the rest exceed the lane, the longest steps are cut to a common length and keep their latest
    events; returns the number of events dropped by that cut.
    """
    out = cast(Events, batch.inputs)
    num_steps = out.step_start.shape[1] - 1
    edges = np.searchsorted(raw.t_us, start_us + step_us * np.arange(num_steps + 1))
    rows, cell = _cropped(raw, pixels, edges[0], edges[-1])
    bounds = np.searchsorted(rows, edges)
    counts = np.diff(bounds)
    limit = step_limit(counts, out.xy.shape[1])
    order = _by_cell(cell, bounds, limit)
    starts = np.concatenate([[0], np.cumsum(np.minimum(counts, limit))])
    rows, num = rows[order], len(order)
    out.xy[lane, :num] = pixels.mapped(raw.x[rows], raw.y[rows])
    out.polarity[lane, :num] = raw.p[rows]
    step_time = np.repeat(start_us + step_us * np.arange(num_steps), np.diff(starts))
    out.t_us[lane, :num] = raw.t_us[rows] - step_time
    out.step_start[lane] = starts
    return int(counts.sum() - starts[-1])


def _cropped(
    raw: EventChunk, pixels: PixelMap | AffinePixels, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows from `start` to before `stop` that lie inside the crop, and their windows."""
    x, y = raw.x[start:stop], raw.y[start:stop]
    rows = np.arange(start, stop)
    inside = pixels.kept(x, y)
    if inside is not None:
        kept = np.flatnonzero(inside)
        rows, x, y = rows[kept], x[kept], y[kept]
    return rows, pixels.cells(x, y)


def _by_cell(cell: np.ndarray, bounds: np.ndarray, limit: int) -> np.ndarray:
    """Order of the last `limit` entries of each slice bounds[k] : bounds[k + 1] by window and position."""
    # A key of window and position has no ties, so the fast unstable sort of integers suffices.
    dtype, bits = (np.uint32, 16) if limit <= 1 << 16 else (np.uint64, 32)
    key = cell.astype(dtype) << dtype(bits)
    position = np.arange(limit, dtype=dtype)
    parts = [np.zeros(0, np.int64)]
    for low, high in pairwise(bounds.tolist()):
        low = max(low, high - limit)
        part = key[low:high]
        part |= position[: high - low]
        part.sort()
        part &= dtype((1 << bits) - 1)
        parts.append(part.astype(np.int64) + low)
    return np.concatenate(parts)


def step_limit(counts: np.ndarray, budget: int) -> int:
    """The largest step length such that steps of `counts` events, cut to it, have at most `budget` events."""
    if counts.sum() <= budget:
        return int(counts.max(initial=0))
    low, high = 0, int(counts.max())  # low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        if np.minimum(counts, middle).sum() <= budget:
            low = middle
        else:
            high = middle
    return low


class Origin(NamedTuple):
    """Recording and time of a window, to name it in `source` and in messages."""

    name: str
    number: int
    start_us: int
    step_us: int


def put_labels(batch: Batch, lane: int, labels: Labels, first_step: int, origin: Origin) -> None:
    """Write the labelled steps of one segment, whose first step in the window is `first_step`, into slots.

    Raises InputError for more labelled steps than slots, or more boxes at one time than a slot holds.
    """
    targets = batch.targets
    _, num_slots, num_boxes = targets.labels.shape
    counts = np.diff(labels.row_start)
    _check_room(origin, "labelled steps in one segment", len(counts), num_slots, "data.max_slots")
    _check_room(origin, "boxes at one time", int(counts.max(initial=0)), num_boxes, "data.max_boxes")
    for slot, count in enumerate(counts):
        rows = slice(labels.row_start[slot], labels.row_start[slot + 1])
        targets.boxes[lane, slot, :count] = labels.boxes[rows]
        targets.labels[lane, slot, :count] = labels.classes[rows]
        targets.box_mask[lane, slot, :count] = True
        targets.ignore_mask[lane, slot, :count] = labels.ignore[rows]
    num = len(counts)
    targets.at_step[lane, :num] = labels.steps - first_step
    targets.slot_mask[lane, :num] = True
    batch.source[lane, :num, 0] = origin.number
    batch.source[lane, :num, 1] = origin.start_us + origin.step_us * (labels.steps + 1)


def _check_room(origin: Origin, what: str, found: int, room: int, setting: str) -> None:
    if found > room:
        raise InputError(f"{origin.name}: {found} {what}, room for {room}; raise {setting}")
