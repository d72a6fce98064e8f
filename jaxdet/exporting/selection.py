"""Selection of detections as standard ONNX nodes, by the rules of `jaxdet.ops.select`.

The standard node keeps scores above a threshold, where the rule of YOLOX and HMNet keeps those that reach it,
and it gives boxes class by class. So candidates are chosen before the node, and sorted after it: by falling
score, equal ones by their number.
"""

from collections.abc import Sequence

import numpy as np

from jaxdet.errors import InputError
from jaxdet.exporting.graph import Graph, Operand
from jaxdet.ops.select import BestClass, MultiLabel, Rule

OUTPUTS = ("boxes", "scores", "labels", "image")

# Distance between the classes' copies of the image, pixels, as in `ops.select`.
_CLASS_OFFSET = 4096


def select(
    graph: Graph,
    rule: Rule,
    candidates: Sequence[Operand],
    valid: Operand,
    image_size: tuple[int, int] | None,
) -> dict[str, str]:
    """Names of boxes [N, 4], scores [N] and labels int32 [N], best first; of several slots, one by one.

    `candidates` are boxes [B, A, 4], objectness [B, A] and class scores [B, A, C]; `valid` [B, 1] is false
    for a slot without detections, of which there may be one only if B is 1. For another B, `image` int32 [N]
    is the slot of each box.
    """
    whole = [graph.arranged(part) for part in candidates]
    several = candidates[0].shape[0] != 1
    if isinstance(rule, BestClass) and not several:
        found = _best_class(graph, rule, candidates, graph.arranged(valid))
    elif isinstance(rule, BestClass):
        found = _best_class_of_each(graph, rule, whole, candidates[2].shape[1:])
    else:
        found = _multi_label(graph, rule, whole, None if several else graph.arranged(valid))
    boxes, scores, *numbers = found[: 4 if several else 3]
    found = [boxes, scores, *(graph.cast(number, np.int32) for number in numbers)]
    if image_size is not None:
        found = _clipped(graph, found, image_size)
    return dict(zip(OUTPUTS, found))


def _number(graph: Graph, value: float) -> str:
    return graph.weight(np.float32(value))


def _rows(graph: Graph, mask: str) -> str:
    """Numbers of the elements of a vector that are true."""
    return graph.node("Reshape", [graph.node("NonZero", [mask]), graph.ints([-1])])


def _take(graph: Graph, arrays: Sequence[str], rows: str) -> list[str]:
    return [graph.node("Gather", [array, rows], axis=0) for array in arrays]


def _suppressed(graph: Graph, boxes: str, scores: str, limit: int, iou: float) -> str:
    """Rows (slot, class, box) that the standard node keeps of boxes [B, M, 4], by scores [B, C, M].

    Of each class and slot there are up to `limit`; a score of -1 is no candidate.
    """
    thresholds = [_number(graph, iou), _number(graph, -0.5)]
    return graph.node("NonMaxSuppression", [boxes, scores, graph.weight(np.int64(limit)), *thresholds])


def _one(graph: Graph, array: str) -> str:
    return graph.node("Unsqueeze", [array, graph.ints([0])])


def _sorted(graph: Graph, keys: str, largest: int) -> list[str]:
    """Sorted keys and their places; equal ones stay in order."""
    count = graph.node("Shape", [keys])
    return graph.node("TopK", [keys, count], outputs=2, axis=0, largest=largest, sorted=1)


def _scored(graph: Graph, objectness: str, scores: str) -> list[str]:
    """Score and best class [B, A] of each candidate."""
    best = graph.node("ReduceMax", [scores, graph.ints([2])], keepdims=0)
    return [graph.node("Mul", [objectness, best]), graph.node("ArgMax", [scores], axis=2, keepdims=0)]


def _best_class(graph: Graph, rule: BestClass, candidates: Sequence[Operand], valid: str) -> list[str]:
    """Boxes, scores and labels of one slot; only what reaches the threshold is suppressed."""
    num, classes = candidates[2].shape[1:]
    boxes, objectness, scores = (graph.arranged(part) for part in candidates)
    score, label = _scored(graph, objectness, scores)
    reached = graph.node("GreaterOrEqual", [score, _number(graph, rule.min_score)])
    reached = graph.node("And", [reached, valid])
    flat = [graph.node("Reshape", [part, graph.ints([num])]) for part in (score, label, reached)]
    boxes = graph.node("Reshape", [boxes, graph.ints([num, 4])])
    boxes, score, label = _take(graph, (boxes, *flat[:2]), _rows(graph, flat[2]))
    every = graph.weight(np.arange(classes, dtype=np.int64)[:, None])
    own = graph.node("Equal", [_one(graph, label), every])
    per_class = graph.node("Where", [own, _one(graph, score), _number(graph, -1)])
    kept = _suppressed(graph, _one(graph, boxes), _one(graph, per_class), num, rule.nms_iou)
    kept, _ = _sorted(graph, _columns(graph, kept, 2)[0], 0)
    boxes, score, label = _take(graph, (boxes, score, label), kept)
    score, order = _sorted(graph, score, 1)
    boxes, label = _take(graph, (boxes, label), order)
    return [boxes, score, label]


def _best_class_of_each(
    graph: Graph, rule: BestClass, candidates: Sequence[str], lengths: Sequence[int]
) -> list[str]:
    """Boxes, scores, labels and slots of several slots: the node takes them all, with every candidate."""
    boxes, objectness, scores = candidates
    num, classes = lengths
    score, label = _scored(graph, objectness, scores)
    reached = graph.node("GreaterOrEqual", [score, _number(graph, rule.min_score)])
    every = graph.weight(np.arange(classes, dtype=np.int64)[None, :, None])
    middle = graph.ints([1])
    own = graph.node("Equal", [graph.node("Unsqueeze", [label, middle]), every])
    own = graph.node("And", [own, graph.node("Unsqueeze", [reached, middle])])
    per_class = graph.node("Where", [own, graph.node("Unsqueeze", [score, middle]), _number(graph, -1)])
    slot, row = _columns(graph, _suppressed(graph, boxes, per_class, num, rule.nms_iou), 0, 2)
    # By slot, then by falling score, equal ones by their number.
    length = graph.weight(np.int64(num))
    number, _ = _sorted(graph, graph.node("Add", [graph.node("Mul", [slot, length]), row]), 0)
    flat = [graph.node("Reshape", [part, graph.ints([-1])]) for part in (score, label)]
    score, label = _take(graph, flat, number)
    _, order = _sorted(graph, score, 1)
    (number,) = _take(graph, [number], order)
    count = graph.node("Size", [number])
    place = graph.node("Range", [graph.weight(np.int64(0)), count, graph.weight(np.int64(1))])
    slot = graph.node("Div", [number, length])
    _, again = _sorted(graph, graph.node("Add", [graph.node("Mul", [slot, count]), place]), 0)
    slot, score, label, number = _take(graph, [slot, *_take(graph, (score, label), order), number], again)
    (boxes,) = _take(graph, [graph.node("Reshape", [boxes, graph.ints([-1, 4])])], number)
    return [boxes, score, label, slot]


def _multi_label(graph: Graph, rule: MultiLabel, candidates: Sequence[str], valid: str | None) -> list[str]:
    """Boxes, scores, labels and slots: a row for every class of a candidate; slots are the node's classes."""
    if rule.merge:
        raise InputError("merged boxes have no ONNX form here; export to .stablehlo")
    boxes, objectness, scores = candidates
    least = _number(graph, rule.min_score)
    column = graph.node("Unsqueeze", [objectness, graph.ints([2])])
    scores = graph.node("Mul", [scores, column])
    seen = graph.node("And", [graph.node("Greater", [column, least]), graph.node("Greater", [scores, least])])
    if valid is not None:
        seen = graph.node("And", [seen, graph.node("Unsqueeze", [valid, graph.ints([2])])])
    triples = graph.node("Transpose", [graph.node("NonZero", [seen])], perm=[1, 0])
    slot, label = _columns(graph, triples, 0, 2)
    score = graph.node("GatherND", [scores, triples])
    boxes = graph.node("GatherND", [boxes, graph.node("Gather", [triples, graph.ints([0, 1])], axis=1)])
    moved = boxes
    if not rule.agnostic:
        apart = graph.node("Mul", [graph.cast(label, np.float32), _number(graph, _CLASS_OFFSET)])
        moved = graph.node("Add", [boxes, graph.node("Unsqueeze", [apart, graph.ints([1])])])
    lanes = graph.node("Gather", [graph.node("Shape", [scores]), graph.weight(np.int64(0))])
    every = graph.node("Range", [graph.weight(np.int64(0)), lanes, graph.weight(np.int64(1))])
    own = graph.node("Equal", [_one(graph, slot), graph.node("Unsqueeze", [every, graph.ints([1])])])
    per_slot = graph.node("Where", [own, _one(graph, score), _number(graph, -1)])
    # The node's own order: by class, here the slot, then by falling score, equal ones by their number.
    kept = _suppressed(graph, _one(graph, moved), _one(graph, per_slot), rule.max_detections, rule.nms_iou)
    return _take(graph, (boxes, score, label, slot), _columns(graph, kept, 2)[0])


def _columns(graph: Graph, table: str, *which: int) -> list[str]:
    return [graph.node("Gather", [table, graph.weight(np.int64(i))], axis=1) for i in which]


def _clipped(graph: Graph, found: list[str], image_size: tuple[int, int]) -> list[str]:
    """Boxes moved into the image; those left empty go."""
    height, width = image_size
    boxes, *rest = found
    limit = graph.weight(np.array([width, height, width, height], np.float32))
    boxes = graph.node("Min", [graph.node("Max", [boxes, _number(graph, 0)]), limit])
    sides = [graph.node("Gather", [boxes, graph.ints(part)], axis=1) for part in ((2, 3), (0, 1))]
    least = graph.node("ReduceMin", [graph.node("Sub", sides), graph.ints([1])], keepdims=0)
    rows = _rows(graph, graph.node("Greater", [least, _number(graph, 0)]))
    return _take(graph, [boxes, *rest], rows)
