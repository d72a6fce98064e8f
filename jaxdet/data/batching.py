"""Windows to padded batches: events sorted and packed into a bucket, labelled steps into slots.

Everything is written straight into the arrays of the batch; a lane is filled by `put_events` and `put_labels`.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np

from jaxdet.data.events import PixelMap
from jaxdet.data.gen1 import Labels
from jaxdet.errors import InputError
from jaxdet.structs import Batch, Events, Targets


class RawEvents(NamedTuple):
    """Events as recorded, in order of time."""

    t_us: np.ndarray  # int64 [n]
    x: np.ndarray  # int16 [n]
    y: np.ndarray  # int16 [n]
    p: np.ndarray  # int8 [n]   polarity, 0 or 1


def bucket(num_events: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that holds `num_events`, the largest if none does."""
    return min((b for b in buckets if b >= num_events), default=max(buckets))


def empty(num_lanes: int, num_events: int, num_steps: int, num_slots: int, num_boxes: int) -> Batch:
    """A batch of lanes that hold nothing: no event, no slot, reset true."""
    lanes = num_lanes
    return Batch(
        Events(
            xy=np.zeros((lanes, num_events, 2), np.float32),
            t_us=np.zeros((lanes, num_events), np.int16),
            polarity=np.zeros((lanes, num_events), np.int8),
            step_start=np.zeros((lanes, num_steps + 1), np.int32),
        ),
        Targets(
            boxes=np.zeros((lanes, num_slots, num_boxes, 4), np.float32),
            labels=np.zeros((lanes, num_slots, num_boxes), np.int32),
            box_mask=np.zeros((lanes, num_slots, num_boxes), bool),
            ignore_mask=np.zeros((lanes, num_slots, num_boxes), bool),
            at_step=np.zeros((lanes, num_slots), np.int32),
            slot_mask=np.zeros((lanes, num_slots), bool),
        ),
        reset=np.ones(lanes, bool),
        source=np.full((lanes, num_slots, 2), -1, np.int32),
    )


def put_events(batch: Batch, lane: int, raw: RawEvents, start_us: int, pixels: PixelMap, step_us: int) -> int:
    """Write the events of one segment, which starts at `start_us`, into a lane of `batch`.

    Events are sorted by step, then by 4 x 4 window, then by time. Events that `pixels` crops away are gone by
    intent. If the rest exceed the lane, the longest steps are cut to a common length and keep their latest events;
    returns how many were lost to that.
    """
    out = cast(Events, batch.inputs)
    num_steps = out.step_start.shape[1] - 1
    edges = np.searchsorted(raw.t_us, start_us + step_us * np.arange(num_steps + 1))
    kept = _kept(raw, pixels, slice(edges[0], edges[-1]))
    if kept is None:
        cell = pixels.cell_x[raw.x[edges[0] : edges[-1]]] + pixels.cell_y[raw.y[edges[0] : edges[-1]]]
        first, bounds = edges[0], edges - edges[0]
    else:
        cell = pixels.cell_x[raw.x[kept]] + pixels.cell_y[raw.y[kept]]
        first, bounds = 0, np.searchsorted(kept, edges)
    counts = np.diff(bounds)
    limit = step_limit(counts, out.xy.shape[1])
    starts = np.concatenate([[0], np.cumsum(np.minimum(counts, limit))])
    order = np.empty(starts[-1], np.int64)
    for k in np.flatnonzero(counts):
        begin = max(bounds[k], bounds[k + 1] - limit)
        # 16-bit keys make this a radix sort.
        order[starts[k] : starts[k + 1]] = np.argsort(cell[begin : bounds[k + 1]], kind="stable")
        order[starts[k] : starts[k + 1]] += begin
    rows = order + first if kept is None else kept[order]
    _gather(out, lane, raw, rows, starts, start_us, pixels, step_us)
    return int(counts.sum() - starts[-1])


def _kept(raw: RawEvents, pixels: PixelMap, part: slice) -> np.ndarray | None:
    """Rows of `part` inside the crop, or None if all are."""
    if pixels.keep_x.all() and pixels.keep_y.all():
        return None
    return np.flatnonzero(pixels.keep_x[raw.x[part]] & pixels.keep_y[raw.y[part]]) + part.start


def _gather(out, lane, raw, rows, starts, start_us, pixels, step_us) -> None:
    num = len(rows)
    out.xy[lane, :num, 0] = pixels.x[raw.x[rows]]
    out.xy[lane, :num, 1] = pixels.y[raw.y[rows]]
    out.polarity[lane, :num] = raw.p[rows]
    step_time = np.repeat(start_us + step_us * np.arange(len(starts) - 1), np.diff(starts))
    out.t_us[lane, :num] = raw.t_us[rows] - step_time
    out.step_start[lane] = starts


def step_limit(counts: np.ndarray, budget: int) -> int:
    """The largest length of a step so that steps of `counts` events, cut to it, fit in `budget`."""
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


def put_labels(
    out: Batch, lane: int, labels: Labels, steps: tuple[int, int], min_step: int, times: tuple[int, int, int]
) -> None:
    """Write the labelled steps of a segment into the slots of a lane.

    steps: the segment's first step and the one after its last, counted from the window's start; min_step: the first
    step that gets a slot; times: number of the recording, start of the window and length of a step in microseconds.
    """
    low = np.searchsorted(labels.steps, max(steps[0], min_step))
    high = np.searchsorted(labels.steps, steps[1])
    targets = out.targets
    _, num_slots, num_boxes = targets.labels.shape
    if high - low > num_slots:
        raise InputError(
            f"recording {times[0]}: {high - low} labelled steps in one segment, room for {num_slots}; "
            "raise data.max_slots"
        )
    recording, start_us, step_us = times
    for slot, i in enumerate(range(low, high)):
        rows = slice(labels.row_start[i], labels.row_start[i + 1])
        num = rows.stop - rows.start
        if num > num_boxes:
            raise InputError(
                f"recording {recording}: {num} boxes at one time, room for {num_boxes}; raise data.max_boxes"
            )
        targets.boxes[lane, slot, :num] = labels.boxes[rows]
        targets.labels[lane, slot, :num] = labels.classes[rows]
        targets.box_mask[lane, slot, :num] = True
        targets.ignore_mask[lane, slot, :num] = labels.ignore[rows]
        targets.at_step[lane, slot] = labels.steps[i] - steps[0]
        targets.slot_mask[lane, slot] = True
        out.source[lane, slot] = recording, start_us + step_us * (int(labels.steps[i]) + 1)
