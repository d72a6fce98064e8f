"""Overlaps between the boxes of a video, decided on the host.

IoU counts pixels inclusively (`+ 1`) in float64. NumPy rounds every operation, whereas compilers contract
`a * b + c`: here an overlap that equals a threshold falls on the same side on every device.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

_FRAME_SIZES = (16, 32, 64, 128, 256, 384, 512, 768, 1024, 1536, 2048)
_BOX_SIZES = (8, 16, 24, 32, 48, 64, 80, 96, 112, 128)
_PAIRS_AT_ONCE = 1 << 15  # the temporaries of so many stay in the cache


class Pairs(NamedTuple):
    """Relations of the boxes of frames `first : stop`, padded to F frames of N boxes.

    Entry [i, j] is a pair of boxes.
    """

    first: int
    stop: int
    arrive: np.ndarray  # bool [F, N, N]      box i of the frame before continues as box j
    leave: np.ndarray  # bool [F, N, N]      box i of the frame after continues box j
    overlap: np.ndarray  # bool [F, N, N]     boxes of one frame suppress each other; true on the diagonal
    duplicate: np.ndarray  # bool [F, N, N]      the final NMS counts boxes of one frame as one

    def packed(self) -> "Pairs":
        """The same relations with masks of one bit per pair."""
        return Pairs(self.first, self.stop, *(np.packbits(mask, axis=-1) for mask in self[2:]))

    def unpacked(self) -> "Pairs":
        """Undo `packed`."""
        width = self.overlap.shape[1]
        masks = (np.unpackbits(mask, axis=-1, count=width).view(bool) for mask in self[2:])
        return Pairs(self.first, self.stop, *masks)


def pairs(
    boxes: Float[np.ndarray, "F N 4"],
    labels: Int[np.ndarray, "F N"],
    counts: Int[np.ndarray, "F"],
    first: int,
    stop: int,
    *,
    link_iou: float,
    suppress_iou: float,
    nms_iou: float,
    link_by_class: bool,
) -> Pairs:
    """Relations within frames `first : stop` of a video: `boxes` [F, N, 4], `labels` [F, N], `counts` [F]."""
    width = bucket(boxes.shape[1], _BOX_SIZES, 32)
    shape = (bucket(stop - first, _FRAME_SIZES, 1024), width, width)
    found = Pairs(first, stop, *(np.zeros(shape, bool) for _ in range(4)))
    for begin, end, n in _chunks(counts, first, stop):
        here, rows = slice(begin - first, end - first), slice(begin, end)
        real = np.arange(n) < counts[rows, None]
        iou = _iou(boxes[rows, :n], boxes[rows, :n])
        both = real[:, :, None] & real[:, None, :]
        found.overlap[here, :n, :n] = (iou >= suppress_iou) & both
        found.duplicate[here, :n, :n] = (iou > nms_iou) & both
        links = _links(boxes, labels, counts, begin, min(end, stop - 1), n, link_iou, link_by_class)
        found.leave[begin - first : begin - first + len(links), :n, :n] = links.swapaxes(1, 2)
        found.arrive[begin - first + 1 : begin - first + 1 + len(links), :n, :n] = links
    found.overlap[:, np.arange(width), np.arange(width)] = True
    return found


def cuts(
    boxes: Float[np.ndarray, "F N 4"],
    labels: Int[np.ndarray, "F N"],
    counts: Int[np.ndarray, "F"],
    max_frames: int,
    link_iou: float,
    link_by_class: bool,
) -> list[tuple[int, int]]:
    """Ranges of at most `max_frames` frames, (first, stop), between which no link crosses.

    A range grows beyond the maximum where links cross everywhere.
    """
    num_frames = len(counts)
    if num_frames <= max_frames:
        return [(0, num_frames)]
    free = np.ones(num_frames, bool)  # no link leaves this frame
    for begin, end, n in _chunks(counts, 0, num_frames):
        links = _links(boxes, labels, counts, begin, end, n, link_iou, link_by_class)
        free[begin:end] = ~links.any((1, 2))
    ends = np.flatnonzero(free) + 1
    ranges, first = [], 0
    while first < num_frames:
        after = np.searchsorted(ends, first + max_frames, "right")
        stop = int(ends[max(after - 1, np.searchsorted(ends, first, "right"))])
        ranges.append((first, stop))
        first = stop
    return ranges


def mask_bytes(num_frames: int, max_boxes: int) -> int:
    """Size of the four masks of a segment."""
    return 4 * bucket(num_frames, _FRAME_SIZES, 1024) * bucket(max_boxes, _BOX_SIZES, 32) ** 2


def bucket(n: int, sizes: Sequence[int], step: int) -> int:
    """The least of `sizes` that holds `n`, or a multiple of `step` beyond them: few shapes are compiled."""
    return next((size for size in sizes if size >= n), -(-n // step) * step)


def _chunks(counts: Int[np.ndarray, "F"], first: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(begin, end, boxes in the fullest frame, the one after the end included)."""
    while first < stop:
        size = max(_PAIRS_AT_ONCE // max(int(counts[first]), 1) ** 2, 1)
        end = min(first + size, stop)
        yield first, end, max(int(counts[first : end + 1].max()), 1)
        first = end


def _links(
    boxes: Float[np.ndarray, "F N 4"],
    labels: Int[np.ndarray, "F N"],
    counts: Int[np.ndarray, "F"],
    begin: int,
    end: int,
    n: int,
    link_iou: float,
    link_by_class: bool,
) -> Bool[np.ndarray, "T n n"]:
    """bool [end - begin, n, n]: box i of a frame continues as box j of the next; none from the last frame."""
    links = np.zeros((max(end - begin, 0), n, n), bool)
    last = min(end, len(counts) - 1)
    if last <= begin:
        return links
    here, after = slice(begin, last), slice(begin + 1, last + 1)
    found = _iou(boxes[here, :n], boxes[after, :n]) >= link_iou
    column = np.arange(n)
    found &= (column < counts[here, None])[:, :, None] & (column < counts[after, None])[:, None, :]
    if link_by_class:
        found &= labels[here, :n, None] == labels[after, None, :n]
    links[: last - begin] = found
    return links


def _iou(a: Float[np.ndarray, "T n 4"], b: Float[np.ndarray, "T m 4"]) -> Float[np.ndarray, "T n m"]:
    """Inclusive IoU of boxes [T, n, 4] and [T, m, 4] -> [T, n, m], with the release's order of operations."""
    area_a, area_b = ((x[..., 2] - x[..., 0] + 1) * (x[..., 3] - x[..., 1] + 1) for x in (a, b))
    a, b = np.moveaxis(a, -1, 0)[..., :, None], np.moveaxis(b, -1, 0)[..., None, :]
    inter = np.minimum(a[2], b[2])
    inter -= np.maximum(a[0], b[0])
    inter += 1
    np.maximum(inter, 0, out=inter)
    height = np.minimum(a[3], b[3])
    height -= np.maximum(a[1], b[1])
    height += 1
    np.maximum(height, 0, out=height)
    inter *= height
    union = area_a[..., :, None] + area_b[..., None, :]
    union -= inter
    return np.divide(inter, union, out=inter)
