"""Two plain implementations of Seq-NMS to compare with, one path at a time.

`exact` compares sums of scores as whole millionths and redoes only what a path can have changed. `released`
compares floating point sums and redoes everything; it says whether two compared sums were closer than
rounding can tell.
"""

from fractions import Fraction
from itertools import pairwise

import numpy as np

OTHER = 1e-5


def iou(a, b):
    """Inclusive IoU [n, m]."""
    area_a, area_b = ((x[:, 2] - x[:, 0] + 1) * (x[:, 3] - x[:, 1] + 1) for x in (a, b))
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(high - low + 1, 0)
    inter = sides[..., 0] * sides[..., 1]
    return inter / (area_a[:, None] + area_b[None, :] - inter)


def exact(frames, min_score, use_max=False, link_by_class=False):
    """Kept (frame, label, row) in order, and the new scores of each class; `frames` of (boxes, scores,
    labels)."""
    links, overlaps = _relations(frames, link_by_class)
    classes = sorted({int(c) for _, _, labels in frames for c in labels})
    new = {c: _exact_class(frames, links, overlaps, c, use_max) for c in classes}
    return keep(frames, new, min_score), new


def _relations(frames, link_by_class):
    links = [iou(a[0], b[0]) >= 0.6 for a, b in pairwise(frames)]
    if link_by_class:
        links = [m & (a[2][:, None] == b[2][None]) for m, (a, b) in zip(links, pairwise(frames))]
    return links, [iou(f[0], f[0]) >= 0.3 for f in frames]


def _exact_class(frames, links, overlaps, label, use_max):
    scores = [np.where(f[2] == label, f[1], OTHER) for f in frames]
    units = [np.rint(s * 1e6).astype(np.int64) for s in scores]
    alive = [np.ones(len(s), bool) for s in scores]
    sums, nexts = [u.copy() for u in units], [np.full(len(u), -1) for u in units]
    num = len(frames)

    def update(t):
        before = sums[t].copy()
        sums[t], nexts[t] = units[t].copy(), np.full(len(units[t]), -1)
        if t + 1 < num and len(units[t]) and len(units[t + 1]):
            reach = np.where(links[t] & alive[t + 1][None] & alive[t][:, None], sums[t + 1][None], -1)
            has = reach.max(1) >= 0
            sums[t][has] += reach.max(1)[has]
            nexts[t][has] = reach.argmax(1)[has]
        return not np.array_equal(before, sums[t])

    for t in reversed(range(num)):
        update(t)
    best_taken = (Fraction(0), 1, 0)  # value, -frame, -row of the best box that was already rescored
    while True:
        best = best_taken
        for t in range(num):
            root = alive[t].copy()
            if t and len(units[t - 1]):
                root &= ~(links[t - 1] & alive[t - 1][:, None]).any(0)
            if root.any():
                row = int(np.argmax(np.where(root, sums[t], -1)))
                best = max(best, (Fraction(int(sums[t][row])), -t, -row))
        start, row = -best[1], -best[2]
        if best[0] <= 0 or best == best_taken or nexts[start][row] < 0:
            return scores
        path = [row]
        while nexts[start + len(path) - 1][path[-1]] >= 0:
            path.append(int(nexts[start + len(path) - 1][path[-1]]))
        end = start + len(path) - 1
        own = [scores[t][i] for t, i in enumerate(path, start)]
        total = 0.0
        for score in reversed(own):
            total = score + total
        value = max(own) if use_max else total / len(path)
        whole = [int(units[t][i]) for t, i in enumerate(path, start)]
        mean = Fraction(max(whole)) if use_max else Fraction(sum(whole), len(path))
        best_taken = max(best_taken, (mean, -start, -row))
        for t, i in enumerate(path, start):
            gone = overlaps[t][i].copy()
            gone[i] = True
            scores[t][gone], units[t][gone], alive[t][gone] = 0.0, 0, False
            scores[t][i] = value
        for t in range(end, -1, -1):
            if not update(t) and t < start:
                break


def released(frames, min_score):
    """(kept rows as of `exact`, two compared sums differed by less than 1e-9 without being equal)."""
    links, overlaps = _relations(frames, False)
    classes = sorted({int(c) for _, _, labels in frames for c in labels})
    close = [False]
    new = {c: _released_class(frames, links, overlaps, c, close) for c in classes}
    return keep(frames, new, min_score, close), close[0]


def _released_class(frames, links, overlaps, label, close):
    scores = [[float(s) if c == label else OTHER for s, c in zip(f[1], f[2])] for f in frames]
    links = [[list(np.flatnonzero(row)) for row in matrix] for matrix in links] + [[[] for _ in scores[-1]]]

    def greater(a, b):
        close[0] |= 0 < abs(a - b) < 1e-9
        return a > b

    while True:
        sums, nexts = [], []
        for t in reversed(range(len(frames))):
            row_sums, row_nexts = [], []
            for i, score in enumerate(scores[t]):
                best = None
                for j in links[t][i]:
                    if best is None or greater(sums[0][j], sums[0][best]):
                        best = j
                row_sums.append(score if best is None else score + sums[0][best])
                row_nexts.append(best)
            sums.insert(0, row_sums)
            nexts.insert(0, row_nexts)
        best, first = 0.0, None
        for t, row_sums in enumerate(sums):
            linked = {j for row in links[t - 1] for j in row} if t else set()
            for i, total in enumerate(row_sums):
                if i not in linked and greater(total, best):
                    best, first = total, (t, i)
        if first is None:
            return [np.array(s) for s in scores]
        path, t = [first[1]], first[0]
        while nexts[t][path[-1]] is not None:
            path.append(nexts[t][path[-1]])
            t += 1
        if len(path) == 1:
            return [np.array(s) for s in scores]
        for t, i in enumerate(path, first[0]):
            gone = set(np.flatnonzero(overlaps[t][i])) | {i}
            for j in gone:
                scores[t][j] = 0.0
                links[t][j] = []
            if t:
                links[t - 1] = [[j for j in row if j not in gone] for row in links[t - 1]]
            scores[t][i] = best / len(path)


def keep(frames, new, min_score, close=None):
    """Greedy NMS by class and frame, then the threshold: [(frame, label, row)], class by class within a
    frame."""
    out = []
    for t, (boxes, _, _) in enumerate(frames):
        overlap = iou(boxes, boxes) > 0.3
        for label, scores in new.items():
            own = scores[t]
            if close is not None and len(own):
                gaps = np.diff(np.sort(np.append(own, min_score)))
                close[0] |= bool(((gaps > 0) & (gaps < 1e-9)).any())
            left = list(np.argsort(own, kind="stable")[::-1])
            while left:
                i = left.pop(0)
                if own[i] >= min_score:
                    out.append((t, label, int(i)))
                left = [j for j in left if not overlap[i, j]]
    return out
