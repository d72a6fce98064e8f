"""Errors by kind: cases with one kind of error alone, and AP50 as pycocotools computes it."""

import numpy as np
import pytest

from jaxdet.evaluation import coco, error_kinds

BOX = [10.0, 10, 40, 40]
FAR = [200.0, 200, 40, 40]
NAMES = ("a", "b")


def _shares(truth, found):
    """Shares from rows (image, box, label) and (image, box, label, score), and the AP50 itself."""
    labels = coco.table([r[0] for r in truth], [r[1] for r in truth], [r[2] for r in truth])
    boxes = coco.table(*(list(column) for column in zip(*found)))
    matching = error_kinds.match(labels, boxes)
    shares = error_kinds.shares(labels, matching, NAMES)
    return shares, coco.average_precision(labels, boxes, 2, NAMES).ap50


def _only(shares, kind, count, cost):
    assert {name: share.count for name, share in shares.items()} == {
        name: count if name == kind else 0 for name in error_kinds.KINDS
    }
    expected = {name: cost if name == kind else 0.0 for name in error_kinds.KINDS}
    assert {name: share.cost for name, share in shares.items()} == pytest.approx(expected, abs=1e-12)


def test_background_alone():
    # A false box scores best: precision is 1/2 at every recall.
    shares, ap50 = _shares([(0, BOX, 0)], [(0, FAR, 0, 0.9), (0, BOX, 0, 0.8)])
    assert ap50 == pytest.approx(0.5)
    _only(shares, "background", 1, 0.5)


def test_duplicate_alone():
    # The second box on a label stands above the hit of the second label: precision 1, then 2/3.
    near = [12.0, 10, 40, 40]
    found = [(0, BOX, 0, 0.9), (0, near, 0, 0.8), (1, BOX, 0, 0.7)]
    shares, ap50 = _shares([(0, BOX, 0), (1, BOX, 0)], found)
    assert ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    _only(shares, "duplicate", 1, 1 - (51 + 50 * 2 / 3) / 101)


def test_place_alone():
    # 20 of 40 pixels aside: IoU 1/3. The label is not missed, as it belongs to this error.
    shares, ap50 = _shares([(0, BOX, 0)], [(0, [30.0, 10, 40, 40], 0, 0.9)])
    assert ap50 == 0
    _only(shares, "place", 1, 1.0)


def test_class_alone():
    # Class b has its one label found, class a has its label called b, below the hit: b stays at 1, a is 0.
    found = [(0, BOX, 1, 0.5), (1, BOX, 1, 0.9)]
    shares, ap50 = _shares([(0, BOX, 0), (1, BOX, 1)], found)
    assert ap50 == pytest.approx(0.5)
    _only(shares, "class", 1, 0.5)


def test_both_alone():
    # The label is found as well, so it is not missed; the wrong box above it halves the precision of b.
    truth = [(0, BOX, 0), (1, BOX, 1)]
    found = [(0, BOX, 0, 0.9), (0, [30.0, 10, 40, 40], 1, 0.9), (1, BOX, 1, 0.5)]
    shares, ap50 = _shares(truth, found)
    assert ap50 == pytest.approx((1 + 0.5) / 2)
    _only(shares, "both", 1, 0.25)


def test_missed_alone():
    # One of two labels is found: 51 of 101 recalls are reached.
    shares, ap50 = _shares([(0, BOX, 0), (1, BOX, 0)], [(0, BOX, 0, 0.9)])
    assert ap50 == pytest.approx(51 / 101)
    _only(shares, "missed", 1, 50 / 101)


def test_perfect_boxes_have_no_error():
    shares, ap50 = _shares([(0, BOX, 0), (1, FAR, 1)], [(0, BOX, 0, 0.9), (1, FAR, 1, 0.3)])
    assert ap50 == pytest.approx(1)
    _only(shares, "missed", 0, 0.0)


def test_detections_in_a_region_are_no_errors():
    truth = coco.table([0, 0], [BOX, [100.0, 100, 200, 200]], [0, 0], crowd=[False, True])
    found = coco.table([0, 0], [BOX, [150.0, 150, 40, 40]], [0, 0], [0.5, 0.9])
    matching = error_kinds.match(truth, found)
    assert matching.ignored.tolist() == [True, False]
    assert (matching.kind == -1).all()
    assert not matching.missed.any()
    assert coco.average_precision(truth, found, 1, NAMES).ap50 == pytest.approx(1)


@pytest.mark.parametrize("seed", range(4))
def test_ap50_equals_pycocotools(seed):
    rng = np.random.default_rng(seed)
    count = 120
    xywh = np.concatenate([rng.uniform(0, 60, (count, 2)), rng.uniform(8, 60, (count, 2))], 1)
    image, labels = rng.integers(0, 12, count), rng.integers(0, 2, count)
    truth = coco.table(image, xywh, labels, crowd=rng.random(count) < 0.1)
    moved = xywh + rng.normal(0, 5, xywh.shape)
    moved[:, 2:] = np.abs(moved[:, 2:])
    # Scores of two digits: many are equal.
    found = coco.table(
        image, moved, np.where(rng.random(count) < 0.8, labels, 1 - labels), rng.random(count).round(2)
    )
    matching = error_kinds.match(truth, found)
    kept = ~matching.ignored
    values = []
    for label in range(2):
        rows = kept & (matching.found.labels == label)
        asked = int(((truth.labels == label) & ~truth.crowd).sum())
        hits = matching.hit[rows] >= 0
        values.append(error_kinds.precision_at_half(matching.found.scores[rows], hits, asked))
    measured = coco.average_precision(truth, found, 12, NAMES)
    np.testing.assert_allclose(values, measured.ap50_per_class, atol=1e-12)
