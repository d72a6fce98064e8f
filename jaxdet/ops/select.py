"""Selection of detections from candidates by the released rules of YOLOv4, YOLOX and HMNet; static shapes."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxdet.ops import boxes as box_ops
from jaxdet.ops import nms, nms_kernel

# Distance between the classes' copies of the image, pixels.
_CLASS_OFFSET = 4096
# The merge option works on fewer candidates than this.
_MERGE_LIMIT = 3000
# Classes whose best is found by comparisons.
_FEW_CLASSES = 8
# Rows sorted when no more than these pass the threshold.
_BUDGET = 4096


class Candidates(NamedTuple):
    """Candidates that a head proposes for S slots."""

    boxes: Float[Array, "S A 4"]  # xyxy, input pixels
    objectness: Float[Array, "S A"]  # in [0, 1]
    classes: Float[Array, "S A C"]  # in [0, 1]


class Selected(NamedTuple):
    """Detections of S slots, best first, padded to D."""

    boxes: Float[Array, "S D 4"]
    scores: Float[Array, "S D"]
    labels: Int[Array, "S D"]
    mask: Bool[Array, "S D"]


@dataclass(frozen=True)
class BestClass:
    """Rule of YOLOX and HMNet.

    It keeps the best class of each box, scores of at least `min_score`, suppresses per class and has no
    limit.
    """

    min_score: float = 0.01
    nms_iou: float = 0.65
    in_kernel: bool = False  # suppress in one kernel, on CUDA

    def __call__(self, candidates: Candidates, valid: Bool[Array, " S"]) -> Selected:
        boxes, objectness, classes = candidates
        best, labels = _best(classes)
        scores = objectness * best
        mask = (scores >= self.min_score) & valid[:, None]
        order, keep = nms.nms(boxes, scores, labels, mask, self.nms_iou, self.in_kernel)
        boxes, scores, labels = nms.take((boxes, scores, labels), order)
        return Selected(boxes, scores, labels, keep)


def _best(classes: Array):
    """The largest of the last axis and its index, the first of equals."""
    num_classes = classes.shape[-1]
    if num_classes > _FEW_CLASSES:
        largest = lambda c: (c.max(-1), jnp.argmax(c, -1).astype(jnp.int32))  # noqa: E731
        return lax.platform_dependent(classes, cpu=_first_of_equals, default=largest)
    # Comparisons join the operations around them; a reduction would be a kernel of its own on GPUs.
    best, label = classes[..., 0], jnp.zeros(classes.shape[:-1], jnp.int32)
    for index in range(1, num_classes):
        more = classes[..., index] > best
        best, label = jnp.where(more, classes[..., index], best), jnp.where(more, index, label)
    return best, label


def _first_of_equals(classes: Array):
    """`_best` in two reductions, which XLA's CPU backend vectorises: six times as fast as an argmax."""
    best, last = classes.max(-1), classes.shape[-1] - 1
    index = lax.broadcasted_iota(jnp.int32, classes.shape, classes.ndim - 1)
    return best, jnp.where(classes == best[..., None], index, last).min(-1)


@dataclass(frozen=True)
class MultiLabel:
    """YOLOv4: a row for every class of a box that scores above `min_score`, at most `max_detections` in all.

    Classes are kept apart by moving their boxes 4096 pixels each, in the precision of the boxes (parity: the
    rounding of the moved coordinates decides close calls); `agnostic` leaves them together. With `merge` the
    boxes that remain become score-weighted means of all they overlap, and those without a partner go.
    """

    min_score: float = 0.1
    nms_iou: float = 0.5
    max_detections: int = 300
    merge: bool = False
    agnostic: bool = False
    in_kernel: bool = False  # suppress in one kernel, on CUDA

    def __call__(self, candidates: Candidates, valid: Bool[Array, " S"]) -> Selected:
        # A loop over images, not a batched one: each works on its own number of rows.
        return lax.map(lambda args: self._one(*args), (*candidates, valid))

    def _one(self, boxes: Array, objectness: Array, classes: Array, valid: Array) -> Selected:
        scores = classes * objectness[:, None]
        mask = (objectness > self.min_score)[:, None] & (scores > self.min_score) & valid
        ranking = jnp.where(mask, scores, -jnp.inf).reshape(-1)
        if ranking.size <= _BUDGET or self._by_kernel(boxes):
            return self._ranked(boxes, ranking, classes.shape[1], ranking.size)
        # Few rows pass as a rule; sorting all of them is the exception. GPUs sort all of them either way.
        return lax.cond(
            mask.sum() <= _BUDGET,
            lambda: self._ranked(boxes, ranking, classes.shape[1], _BUDGET),
            lambda: self._ranked(boxes, ranking, classes.shape[1], ranking.size),
        )

    def _ranked(self, boxes: Array, ranking: Array, num_classes: int, count: int) -> Selected:
        scores, rows = lax.top_k(ranking, count)
        box, label = boxes[rows // num_classes], (rows % num_classes).astype(jnp.int32)
        offset = 0 if self.agnostic else label[:, None].astype(box.dtype) * _CLASS_OFFSET
        moved, mask = box + offset, scores > -jnp.inf
        chosen, kept = self._survivors(moved, mask, min(self.max_detections, count))
        result = Selected(box[chosen], scores[chosen], label[chosen], kept)
        if self.merge:
            result = self._merged(result, moved[chosen], box, moved, scores, mask)
        return _padded(result, self.max_detections)

    def _by_kernel(self, boxes: Array) -> bool:
        few = self.max_detections <= nms_kernel.MAX_SURVIVORS
        return self.in_kernel and few and boxes.dtype == jnp.float32

    def _survivors(self, boxes: Array, mask: Array, limit: int):
        """Rows [limit] of the best that survive, and which of them are real."""
        if self._by_kernel(boxes):
            rows = nms_kernel.best(boxes[None], mask.sum()[None], self.nms_iou, limit)[0]
            return jnp.maximum(rows, 0), rows >= 0
        keep = nms.suppress(boxes, jnp.zeros(mask.shape, jnp.int32), mask, self.nms_iou, limit)
        kept, rows = lax.top_k(keep.astype(jnp.int32), limit)
        return rows, kept > 0

    def _merged(
        self, result: Selected, survivors: Array, box: Array, moved: Array, scores: Array, mask: Array
    ) -> Selected:
        n = mask.sum()
        apply = (n > 1) & (n < _MERGE_LIMIT)
        box, moved, scores, mask = (a[:_MERGE_LIMIT] for a in (box, moved, scores, mask))
        partner = (box_ops.pairwise_iou(survivors, moved) > self.nms_iou) & mask[None]
        weight = jnp.where(partner, scores[None], 0)
        mean = (weight @ box) / jnp.maximum(weight.sum(1, keepdims=True), jnp.finfo(box.dtype).tiny)
        return Selected(
            jnp.where(apply, mean, result.boxes),
            result.scores,
            result.labels,
            result.mask & (~apply | (partner.sum(1) > 1)),
        )


Rule = BestClass | MultiLabel


def _padded(result: Selected, count: int) -> Selected:
    missing = count - result.mask.shape[0]
    return jax.tree.map(lambda a: jnp.pad(a, ((0, missing),) + ((0, 0),) * (a.ndim - 1)), result)
