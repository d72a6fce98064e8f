"""Seq-NMS: rescore the boxes of a video along paths of overlapping boxes, then suppress what is left over.

Works on the detections of any detector. `run` takes the frames of a video, `rescore` those of many clips,
`apply` takes `Detections`; the recursion itself is in `paths`.

As released with Seq-YOLO, classes are treated one after another over all boxes of a frame: a box of another
class takes part with a score of 1e-5, so a track may pass through frames in which its object was given a
wrong class. Overlaps are decided in `overlaps`. Sums of scores are compared in whole millionths: with scores
of up to six decimals the result is that of exact arithmetic, on every device.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdet.errors import InputError
from jaxdet.formats import names
from jaxdet.postprocess import overlaps, paths
from jaxdet.structs import Boxes, Detections

OTHER_CLASS_SCORE = 1e-5
_LEAST_MIN_SCORE = 1e-4
_MAX_FRAMES = 2048


class SeqNMSOptions(NamedTuple):
    """Thresholds and the paper's two variants; the defaults are those of the released challenge entry."""

    link_iou: float = 0.6  # boxes of consecutive frames are linked at this IoU and above
    suppress_iou: float = 0.3  # a path suppresses boxes of its frames at this IoU and above
    nms_iou: float = 0.3  # the final NMS of a frame and class suppresses above this IoU
    min_score: float = 0.5  # rows below are dropped at the end
    use_max: bool = False  # rescore a path by its greatest score instead of its mean
    link_by_class: bool = False  # link boxes of equal class only
    max_frames: int = _MAX_FRAMES  # longer videos are cut where no link crosses, to bound memory

    def check(self) -> "SeqNMSOptions":
        """These options; InputError for a value outside its range."""
        for name in ("link_iou", "suppress_iou", "nms_iou"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} {getattr(self, name)}; expected a number above 0, up to 1")
        if not _LEAST_MIN_SCORE <= self.min_score <= 1:
            raise InputError(
                f"min_score {self.min_score}; expected {_LEAST_MIN_SCORE} to 1 "
                "(boxes of other classes count as 1e-5)"
            )
        return self


class PaddedVideo(NamedTuple):
    """Frames padded to one number of boxes."""

    boxes: np.ndarray  # float64 [F, N, 4]
    scores: np.ndarray  # float64 [F, N], -1 for padding
    labels: np.ndarray  # int64 [F, N], -1 for padding
    counts: np.ndarray  # int64 [F]


def run(frames: Sequence[Boxes], options: SeqNMSOptions | None = None) -> list[Boxes]:
    """Seq-NMS of one video: `frames` in order of time -> as many frames, with new scores, in float64.

    Rows come class by class, within a class by falling score (ties: later input row first). A box may come
    out under several classes. Boxes and labels keep their input values. Raises InputError for scores that are
    NaN or outside [0, 1] and for boxes that are not finite.
    """
    options = (options or SeqNMSOptions()).check()
    rescored = []
    for boxes, (rows, scores, labels) in zip(frames, select(frames, options), strict=True):
        kept = boxes.take(rows)
        xyxy = np.asarray(kept.xyxy, np.float64).reshape(-1, 4)
        rescored.append(replace(kept, xyxy=xyxy, scores=scores, labels=labels.astype(np.int32)))
    return rescored


def rescore(frames: Sequence[Boxes], options: SeqNMSOptions | None = None) -> list[Boxes]:
    """Seq-NMS of every clip; frames come clip by clip, in order of time (see `formats.names.by_clip`).

    Parity: frames without boxes are skipped, so boxes link across a gap as if its ends were neighbours.
    """
    rescored = list(frames)
    clips = names.by_clip(frames)
    for rows in clips.values():
        present = [row for row in rows if len(frames[row])]
        for row, boxes in zip(present, run([frames[row] for row in present], options), strict=True):
            rescored[row] = boxes
    return [rescored[row] for rows in clips.values() for row in rows]


def drop_scores_below(frames: Sequence[Boxes], threshold: float) -> list[Boxes]:
    """The boxes with a score above `threshold`, in their order, as in entries without Seq-NMS."""
    return [boxes.take(boxes.scores > threshold) for boxes in frames]


def apply(detections: Detections, options: SeqNMSOptions | None = None) -> Detections:
    """Seq-NMS over each lane's slots: `detections` [B, K, D] -> [B, K, D'], a lane a video of K frames.

    D' is the greatest number of rows in a slot, at least 1. Slots without a detection count as frames without
    boxes.
    """
    boxes, scores, labels, mask = (np.asarray(jax.device_get(leaf)) for leaf in detections)
    lanes = [
        run([Boxes(boxes[b, k][m], scores[b, k][m], labels[b, k][m]) for k, m in enumerate(mask[b])], options)
        for b in range(len(boxes))
    ]
    width = max([len(frame) for lane in lanes for frame in lane], default=0) or 1
    shape = (*mask.shape[:2], width)
    out = Detections(
        np.zeros((*shape, 4), boxes.dtype), np.zeros(shape, scores.dtype), np.zeros(shape, labels.dtype),
        np.zeros(shape, bool),
    )  # fmt: skip
    for b, lane in enumerate(lanes):
        for k, frame in enumerate(lane):
            for target, values in zip(out, (frame.xyxy, frame.scores, frame.labels, True), strict=True):
                target[b, k, : len(frame)] = values
    return out


def select(
    frames: Sequence[Boxes], options: SeqNMSOptions
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Boxes that Seq-NMS keeps of each frame: (input rows, new scores, labels), in the order of `run`."""
    video = pack(frames)
    top = {c: video.scores[video.labels == c].max() for c in np.unique(video.labels) if c >= 0}
    # Means never exceed the greatest score, so a class below the threshold leaves nothing.
    classes = [int(c) for c, score in top.items() if score >= options.min_score]
    if not classes:
        return [_columns([]) for _ in frames]
    segments = _segments(video, options)
    kept: list[list] = [[] for _ in frames]
    for label, new in zip(classes, _rescore_classes(video, segments, classes, options.use_max)):
        for segment, scores in zip(segments, new):
            for t, row, score in zip(*_nms(scores, segment, options.min_score)):
                kept[segment.first + t].append((row, score, label))
    return [_columns(rows) for rows in kept]


def _columns(rows: list[tuple[Any, ...]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    index, scores, labels = zip(*rows) if rows else ((), (), ())
    return np.array(index, np.int64), np.array(scores, np.float64), np.array(labels, np.int64)


def pack(frames: Sequence[Boxes]) -> PaddedVideo:
    """Check frames and pad them to the greatest number of boxes."""
    counts = np.array([len(frame.scores) for frame in frames], np.int64)
    shape = (len(frames), max(counts, default=0))
    video = PaddedVideo(np.zeros((*shape, 4)), np.full(shape, -1.0), np.full(shape, -1), counts)
    for t, frame in enumerate(frames):
        n = counts[t]
        boxes = np.asarray(frame.xyxy, np.float64).reshape(-1, 4)
        if not len(boxes) == n == len(frame.labels):
            raise InputError(
                f"frame {t}: {len(boxes)} boxes, {n} scores, {len(frame.labels)} labels; "
                "expected as many of each"
            )
        video.boxes[t, :n], video.scores[t, :n], video.labels[t, :n] = boxes, frame.scores, frame.labels
    real = np.arange(shape[1]) < counts[:, None]
    bad = real & ~((video.scores >= 0) & (video.scores <= 1) & np.isfinite(video.boxes).all(-1))
    if bad.any():
        t, i = np.argwhere(bad)[0]
        raise InputError(
            f"frame {t}, box {i}: score {video.scores[t, i]}, box {video.boxes[t, i].tolist()}; "
            "expected a score in [0, 1] and finite corners"
        )
    if (real & (video.labels < 0)).any():
        raise InputError(f"label {video.labels[real].min()}; expected class indices from 0")
    return video


def _segments(video: PaddedVideo, options: SeqNMSOptions) -> list[overlaps.Pairs]:
    """Relations of the boxes, of the whole video or of pieces that share no link; pieces are packed."""
    arrays = (video.boxes, video.labels, video.counts)
    ranges = overlaps.cuts(*arrays, options.max_frames, options.link_iou, options.link_by_class)
    segments = (
        overlaps.pairs(
            *arrays,
            *frames,
            link_iou=options.link_iou,
            suppress_iou=options.suppress_iou,
            nms_iou=options.nms_iou,
            link_by_class=options.link_by_class,
        )
        for frames in ranges
    )
    return [segment if len(ranges) == 1 else segment.packed() for segment in segments]


def _rescore_classes(
    video: PaddedVideo, segments: list[overlaps.Pairs], classes: list[int], use_max: bool
) -> list[list[np.ndarray]]:
    """`_rescore` of every class; those after the first, which compiles, run in a thread each."""
    first = _rescore(video, segments, classes[0], use_max)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return [first, *pool.map(lambda label: _rescore(video, segments, label, use_max), classes[1:])]


def _rescore(
    video: PaddedVideo, segments: list[overlaps.Pairs], label: int, use_max: bool
) -> list[np.ndarray]:
    """New scores of all boxes for class `label`, one array [frames, N] per segment."""
    own = np.where(video.labels == label, video.scores, OTHER_CLASS_SCORE)
    own[video.labels < 0] = -1
    padded = [_padded(own[s.first : s.stop], s.overlap.shape[:2]) for s in segments]
    with jax.enable_x64(True):
        if len(segments) == 1:
            new = [paths.run(_masks(segments[0]), _units(padded[0]), padded[0], use_max)[0]]
        else:
            new = _rescore_pieces(segments, padded, use_max)
        return [np.asarray(part)[: s.stop - s.first] for part, s in zip(new, segments)]


def _rescore_pieces(segments: list[overlaps.Pairs], scores: list[np.ndarray], use_max: bool) -> list[Any]:
    """The rounds of `paths.run` over pieces of a video, with the best path and single box of all pieces."""
    num_ids = sum(part.size for part in scores)
    first_ids = np.cumsum([0, *(part.size for part in scores)])
    states = [paths.begin(jnp.asarray(_units(part))) for part in scores]
    found: list[Any] = [None] * len(segments)
    changed = range(len(segments))
    while True:
        for i in changed:
            masks = _masks(segments[i].unpacked())
            found[i] = paths.survey_segment(masks, states[i], int(first_ids[i]), num_ids)
        best, is_path = max((int(f.best), bool(f.best_is_path)) for f in found)
        if not is_path:
            return [paths.rescored_segment(state, part, use_max) for state, part in zip(states, scores)]
        single = max(int(f.single) for f in found)
        changed = [
            i
            for i, f in enumerate(found)
            if int(f.best) == best or bool((f.free & (f.key // num_ids > single)).any())
        ]
        for i in changed:
            masks = _masks(segments[i].unpacked())
            states[i] = paths.take_segment(masks, states[i], found[i], best, single, num_ids, use_max)


def _masks(segment: overlaps.Pairs) -> paths.Masks:
    return paths.Masks(*(jnp.asarray(mask) for mask in (segment.arrive, segment.leave, segment.overlap)))


def _units(scores: np.ndarray) -> np.ndarray:
    units = 2 * np.rint(scores * (paths.UNITS_PER_SCORE // 2)).astype(np.int64)
    return np.where(scores < 0, -1, units)


def _padded(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    out = np.full(shape, -1.0)
    out[: rows.shape[0], : rows.shape[1]] = rows
    return out


def _nms(scores: np.ndarray, segment: overlaps.Pairs, min_score: float):
    """Greedy NMS of every frame, `scores` [F, N] -> (frame, row, score) of what stays.

    By falling score, of equal scores the later row first: the release reverses an ascending stable sort.
    """
    order = np.argsort(scores, axis=1, kind="stable")[:, ::-1]
    depth = int((scores >= min_score).sum(1).max(initial=0))
    frame = np.arange(len(scores))
    duplicate = segment.duplicate
    if duplicate.dtype != bool:
        duplicate = segment.unpacked().duplicate
    open_ = scores >= min_score
    kept = np.zeros((depth, len(scores)), bool)
    for rank in range(depth):
        row = order[:, rank]
        kept[rank] = open_[frame, row]
        open_ &= ~(duplicate[frame, row, : scores.shape[1]] & kept[rank][:, None])
    t, rank = np.nonzero(kept.T)
    row = order[t, rank]
    return t, row, scores[t, row]
