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

# Distance between the classes' copies of the image, pixels, as in `ops.select`.
_CLASS_OFFSET = 4096


def select(
    graph: Graph,
    rule: Rule,
    candidates: Sequence[Operand],
    valid: Operand,
    image_size: tuple[int, int] | None,
) -> dict[str, str]:
    """Names of boxes [N, 4], scores [N] and labels int32 [N] of one slot, best first.

    `candidates` are boxes [1, A, 4], objectness [1, A] and class scores [1, A, C]; `valid` [1, 1] is false
    for a slot without detections.
    """
    num, classes = candidates[2].shape[1:]
    boxes = graph.node("Reshape", [graph.arranged(candidates[0]), graph.ints([num, 4])])
    objectness = graph.node("Reshape", [graph.arranged(candidates[1]), graph.ints([num])])
    scores = graph.node("Reshape", [graph.arranged(candidates[2]), graph.ints([num, classes])])
    lives = graph.node("Reshape", [graph.arranged(valid), graph.ints([1])])
    if isinstance(rule, BestClass):
        found = _best_class(graph, rule, boxes, objectness, scores, lives, classes, num)
    else:
        found = _multi_label(graph, rule, boxes, objectness, scores, lives)
    if image_size is not None:
        found = _clipped(graph, found, image_size)
    return dict(zip(("boxes", "scores", "labels"), found, strict=True))


def _number(graph: Graph, value: float) -> str:
    return graph.weight(np.float32(value))


def _rows(graph: Graph, mask: str) -> str:
    """Numbers of the elements of a vector that are true."""
    return graph.node("Reshape", [graph.node("NonZero", [mask]), graph.ints([-1])])


def _take(graph: Graph, arrays: Sequence[str], rows: str) -> list[str]:
    return [graph.node("Gather", [array, rows], axis=0) for array in arrays]


def _suppressed(graph: Graph, boxes: str, scores: str, limit: int, iou: float) -> str:
    """Numbers of the boxes [M, 4] that the standard node keeps, by scores [C, M]; -1 is no candidate."""
    inputs = [graph.node("Unsqueeze", [part, graph.ints([0])]) for part in (boxes, scores)]
    thresholds = [_number(graph, iou), _number(graph, -0.5)]
    kept = graph.node("NonMaxSuppression", [*inputs, graph.weight(np.int64(limit)), *thresholds])
    return graph.node("Gather", [kept, graph.weight(np.int64(2))], axis=1)


def _best_class(graph, rule, boxes, objectness, scores, lives, classes, num) -> list[str]:
    best = graph.node("ReduceMax", [scores, graph.ints([1])], keepdims=0)
    label = graph.node("ArgMax", [scores], axis=1, keepdims=0)
    score = graph.node("Mul", [objectness, best])
    reached = graph.node("GreaterOrEqual", [score, _number(graph, rule.min_score)])
    rows = _rows(graph, graph.node("And", [reached, lives]))
    boxes, score, label = _take(graph, (boxes, score, label), rows)
    every = graph.weight(np.arange(classes, dtype=np.int64)[:, None])
    own = graph.node("Equal", [graph.node("Unsqueeze", [label, graph.ints([0])]), every])
    per_class = graph.node(
        "Where", [own, graph.node("Unsqueeze", [score, graph.ints([0])]), _number(graph, -1)]
    )
    kept = _suppressed(graph, boxes, per_class, num, rule.nms_iou)
    count = graph.node("Shape", [kept])
    kept, _ = graph.node("TopK", [kept, count], outputs=2, axis=0, largest=0, sorted=1)
    boxes, score, label = _take(graph, (boxes, score, label), kept)
    score, order = graph.node("TopK", [score, count], outputs=2, axis=0, largest=1, sorted=1)
    boxes, label = _take(graph, (boxes, label), order)
    return [boxes, score, graph.cast(label, np.int32)]


def _multi_label(graph, rule: MultiLabel, boxes, objectness, scores, lives) -> list[str]:
    if rule.merge:
        raise InputError("merged boxes have no ONNX form here; export to .stablehlo")
    least = _number(graph, rule.min_score)
    column = graph.node("Unsqueeze", [objectness, graph.ints([1])])
    scores = graph.node("Mul", [scores, column])
    seen = graph.node("And", [graph.node("Greater", [column, least]), graph.node("Greater", [scores, least])])
    pairs = graph.node("Transpose", [graph.node("NonZero", [graph.node("And", [seen, lives])])], perm=[1, 0])
    row, label = _take_columns(graph, pairs)
    score = graph.node("GatherND", [scores, pairs])
    boxes = graph.node("Gather", [boxes, row], axis=0)
    moved = boxes
    if not rule.agnostic:
        apart = graph.node("Mul", [graph.cast(label, np.float32), _number(graph, _CLASS_OFFSET)])
        moved = graph.node("Add", [boxes, graph.node("Unsqueeze", [apart, graph.ints([1])])])
    one_class = graph.node("Unsqueeze", [score, graph.ints([0])])
    # One class: the node's own order is by falling score, equal ones by their number.
    kept = _suppressed(graph, moved, one_class, rule.max_detections, rule.nms_iou)
    boxes, score, label = _take(graph, (boxes, score, label), kept)
    return [boxes, score, graph.cast(label, np.int32)]


def _take_columns(graph: Graph, pairs: str) -> list[str]:
    return [graph.node("Gather", [pairs, graph.weight(np.int64(i))], axis=1) for i in (0, 1)]


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
