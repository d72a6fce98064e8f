"""The values that travel between data, models and evaluation.

Shape letters, used in every signature of the project:

    B lanes (batch)      T steps in a segment          N events in a segment and lane
    K labelled slots     M boxes in a slot             D detections in a slot
    A candidate boxes over all levels                  H W C height, width, channels

Boxes are `xyxy` in input pixels. Masks are true where an entry is real; padding never changes a result.
Leaves are numpy arrays in the data layer and jax arrays afterwards, so this module imports neither.
"""

from typing import Any, NamedTuple

Array = Any


class Events(NamedTuple):
    """Events of one segment, flat per lane, sorted by step and within a step by window.

    Every array leads with the lane axis, so one sharding fits all.
    """

    xy: Array  # float32 [B, N, 2]   column, row; real numbers after the resize augmentation
    t_us: Array  # int16   [B, N]      time since the event's step began
    polarity: Array  # int8    [B, N]      0 or 1
    step_start: Array  # int32   [B, T + 1]  events of step k are rows step_start[k] : step_start[k + 1]


class Images(NamedTuple):
    """Network-sized images."""

    pixels: Array  # uint8 or float [B, H, W, C]   0..255, channel order of the model family


class Targets(NamedTuple):
    """Labels of the labelled steps ("slots") of a segment; an image is one slot at step 0."""

    boxes: Array  # float32 [B, K, M, 4]   xyxy, input pixels
    labels: Array  # int32   [B, K, M]
    box_mask: Array  # bool    [B, K, M]
    ignore_mask: Array  # bool    [B, K, M]      present but not scored (too small)
    at_step: Array  # int32   [B, K]         step of the segment this slot belongs to
    slot_mask: Array  # bool    [B, K]


class Batch(NamedTuple):
    """One training or evaluation step's input."""

    inputs: Events | Images
    targets: Targets
    reset: Array  # bool  [B]            this lane starts a new recording: forget its carry
    source: Array  # int32 [B, K, 2]      (recording or clip, t_us or frame), to name predictions


class Detections(NamedTuple):
    """Boxes a detector reports, best first, padded to D a slot."""

    boxes: Array  # float32 [B, K, D, 4]   xyxy, input pixels
    scores: Array  # float32 [B, K, D]
    labels: Array  # int32   [B, K, D]
    det_mask: Array  # bool    [B, K, D]
