"""Protocol `rvt`: its choice of labels and outputs, by hand and against a second implementation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet.errors import InputError
from jaxdet.evaluation import labels as label_sets
from jaxdet.evaluation import protocols, used_labels
from jaxdet.evaluation.evaluator import evaluate
from jaxdet.formats import npy
from jaxdet.structs import Boxes

CLASSES = ("car", "pedestrian")
CAR, PEDESTRIAN = 0, 1
AT = {CAR: (20, 20, 40, 30), PEDESTRIAN: (120, 20, 40, 30)}  # x, y, w, h
ELSEWHERE = (200, 150, 40, 30)


def _frames(rows):
    """Frames of recording "r" from (t_us, (x, y, w, h), label, score)."""
    table = np.zeros(len(rows), npy.ROWS)
    for row, (t_us, xywh, label, score) in zip(table, rows):
        row["t"], row["class_id"], row["class_confidence"] = t_us, label, score
        row["x"], row["y"], row["w"], row["h"] = xywh
    return label_sets.of_table(table, "r", "r")


def _at(times_ms, label, xywh=None, score=1.0):
    return [(round(1000 * t_ms), xywh or AT[label], label, score) for t_ms in times_ms]


# 20 labels. The grid begins at 350 ms and goes on by 250 ms, with 2 ms of tolerance from the last kept time:
# 600 (250), 852 (252), 1102 (250), 1352 (250), 1850 (498 = 2 x 250 - 2), 2100, 2350.
# 4 are off the grid: 90 lies before 100 ms; 725 and 1975 are half a step away; 1099.999 is 2.001 ms off.
# 1 is too early: 350. 2 are too small: a side of 8, and a diagonal under 30 (18 x 23.9).
# 13 are used, at 7 times: 7 cars and 6 pedestrians.
LABELS = [
    *_at((90, 350, 600, 725, 852, 1099.999, 1102, 1352, 1850, 1975, 2100, 2350), CAR),
    *_at((600, 852, 1352, 1850, 2100), PEDESTRIAN),
    *_at((2350,), PEDESTRIAN, (120, 20, 18, 24)),
    *_at((600,), CAR, (200, 20, 8, 40)),
    *_at((2350,), CAR, (200, 20, 18, 23.9)),
]

# 60 boxes; an answer is the output at the label's time, else the last one up to 50 ms before.
FOUND = [
    # 600: the output at 600, not those 5 ms away.
    *_at((595, 605), CAR, score=0.99), *_at((600,), CAR, score=0.9),
    *_at((600,), PEDESTRIAN, score=0.9),
    # 852: the output at 850, although that at 853 is nearer.
    *_at((845, 853), CAR, score=0.98), *_at((850,), CAR, score=0.8),
    *_at((850,), PEDESTRIAN, score=0.8),
    # 40 perfect boxes, of 860 to 955 ms, that are the answer to no label.
    *_at(range(860, 960, 5), CAR, score=0.97),
    *_at(range(860, 960, 5), PEDESTRIAN, score=0.97),
    # 1102: the output exactly 50 ms before.
    *_at((1052,), CAR, score=0.7),
    # 1352: no answer, as one output is 50.001 ms before and the other after.
    *_at((1301.999, 1352.001), CAR, score=0.96),
    # 1850: a false car ranks before the true one.
    *_at((1850,), CAR, ELSEWHERE, 0.85), *_at((1850,), CAR, score=0.6),
    *_at((1850,), PEDESTRIAN, score=0.4),
    # 2100: the answer has no box that counts (a side of 8; a score below 0.001); 2095 is not asked.
    *_at((2095,), CAR, score=0.95), *_at((2100,), CAR, (20, 20, 8, 40), 0.95),
    *_at((2100,), CAR, score=9e-4),
    # 2350: a car 8 pixels aside, IoU 32 x 30 / (2 x 1200 - 960) = 2/3; a pedestrian at the lowest score.
    *_at((2350,), CAR, (28, 20, 40, 30), 0.5), *_at((2350,), PEDESTRIAN, ELSEWHERE, 0.35),
    *_at((2350,), PEDESTRIAN, (120, 20, 18, 24), 0.001),
]  # fmt: skip


def test_a_worked_example_of_rvt():
    """AP by hand: 101 recall points, precision raised to the best one at a higher recall.

    Cars, by score: 0.9 hit, 0.85 miss, 0.8 hit, 0.7 hit, 0.6 hit, 0.5 hit at IoU 0.50 to 0.65 only. Of 7:
    up to IoU 0.65, precision 1 up to recall 1/7 (15 points), 5/6 up to 5/7 (57 points): (15 + 47.5) / 101;
    from IoU 0.7, 1 up to 1/7, 4/5 up to 4/7 (43 points): (15 + 34.4) / 101. Mean of 4 and 6: 54.64 / 101.
    Pedestrians: 0.9, 0.8, 0.4 hit, 0.35 miss, 0.001 hit. Of 6: precision 1 up to 3/6 (51 points), 4/5 up to
    4/6 (16 points): (51 + 12.8) / 101 = 63.8 / 101.
    """
    assert (len(LABELS), len(FOUND)) == (20, 60)
    metrics = evaluate(_frames(FOUND), _frames(LABELS), "rvt", CLASSES)
    # The sums are of double precision; 1e-9 is far above their rounding.
    np.testing.assert_allclose(metrics.ap_per_class, [54.64 / 101, 63.8 / 101], atol=1e-9, rtol=0)
    assert abs(metrics.ap - 118.44 / 202) < 1e-9
    assert (metrics.num_images, metrics.num_truth, metrics.num_detections) == (7, 13, 11)
    for part in (
        "rvt, camera gen1 (guessed from the labels)",
        "classes car, pedestrian",
        "labels at 4 Hz",
        "13 of 20 labels used",
        "4 off the grid of label times",
        "1 too early",
        "2 too small",
    ):
        assert part in metrics.protocol_line
    assert metrics.as_json()["protocol"] == metrics.protocol_line


def test_an_output_without_boxes_is_an_answer():
    truth = _frames(_at((600,), CAR))
    found = _frames(_at((595,), CAR))
    # The mean over 101 points rounds in double precision.
    assert abs(evaluate(found, truth, "rvt", CLASSES).ap - 1) < 1e-9
    empty = Boxes.none(source="r", time_us=600_000)
    assert evaluate([*found, empty], truth, "rvt", CLASSES).ap == 0


@pytest.mark.parametrize("rate_hz", [30, 60])
def test_the_grid_of_1mpx_has_ten_label_times_a_second(rate_hz):
    times = np.arange(4 * rate_hz) * 1_000_000 // rate_hz
    grid = protocols.of("rvt", "1mpx").grid
    expected = times[times >= 100_000][:: rate_hz // 10]
    np.testing.assert_array_equal(used_labels.on_grid(times, grid), expected)
    # After a gap that is no multiple of the step, the times come from the old grid, or there are none.
    late = np.concatenate((times[: 2 * rate_hz], times[2 * rate_hz :] + 10_000))
    kept = used_labels.on_grid(late, grid)
    assert kept.max() < 2_000_000


def test_size_filters_follow_the_camera():
    sizes = {
        name: (p.min_diagonal, p.min_side) for name in protocols.CAMERAS for p in [protocols.of("rvt", name)]
    }
    assert sizes == {"gen1": (30, 10), "1mpx": (60, 20), "1mpx_half": (30, 10)}
    assert protocols.of("etram", "1mpx")[:7] == protocols.of("rvt", "1mpx")[:7]
    for right, camera in ((303, "gen1"), (500, "1mpx_half"), (1200, "1mpx")):
        frames = _frames([(600_000, (right - 20, 20, 40, 30), CAR, 1)])
        assert protocols.for_labels("hmnet", frames).camera == camera
    for name, camera in (("rvt", "gen2"), ("other", "gen1")):
        with pytest.raises(InputError, match="expected one of"):
            protocols.of(name, camera)


def test_classes_that_are_not_scored_are_left_out_and_counted():
    names = ("truck", "Two-Wheeler", "pedestrian")
    big = (700, 500, 80, 60)
    rows = [(t_us, big, label, 1) for t_us in (600_000, 700_000) for label in (0, 0, 1, 2)]
    metrics = evaluate(_frames(rows), _frames(rows), "rvt", names)
    assert metrics.class_names == ("Two-Wheeler", "pedestrian")
    assert abs(metrics.ap - 1) < 1e-9
    assert metrics.num_detections == 4
    assert "4 of 8 labels used, left out 4 of other classes" in metrics.protocol_line
    assert "left out 4 detections of other classes" in metrics.protocol_line
    everything = evaluate(_frames(rows), _frames(rows), "hmnet", names)
    assert everything.class_names == names
    assert "8 of 8 labels used" in everything.protocol_line


# A second implementation, with loops, of rules and AP alike.


def _big(xywh, t_us):
    return t_us > 500_000 and np.hypot(*xywh[2:]) >= 30 and min(xywh[2:]) >= 10


def _plain_times(truth):
    times = sorted({t for t, xywh, *_ in truth if t >= 100_000 and _big(xywh, 10**9)})
    kept = times[:1]
    for t_us in times[1:]:
        away = [abs(t_us - kept[-1] - k * 250_000) for k in range(1, 40)]
        if min(away) <= 2_000:
            kept.append(t_us)
    return kept


def _overlap(a, b):
    sides = [min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i]) for i in (0, 1)]
    common = max(sides[0], 0) * max(sides[1], 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def _plain_ap(images, threshold):
    """AP of one class from (boxes, [(score, box)]) of each image; -1 without labels."""
    total, hits = sum(len(truth) for truth, _ in images), []
    for truth, found in images:
        free = list(truth)
        for score, box in sorted(found, key=lambda pair: -pair[0]):
            best = max(free, key=lambda other: _overlap(box, other), default=None)
            hit = best is not None and _overlap(box, best) >= threshold
            if hit:
                free.remove(best)
            hits.append((-score, hit))
    if not total:
        return -1
    curve, right = [], 0
    for rank, (_, hit) in enumerate(sorted(hits), 1):
        right += hit
        curve.append((right / total, right / rank))
    points = np.linspace(0, 1, 101)
    return np.mean([max((p for r, p in curve if r >= point), default=0) for point in points])


def _plain_rvt(truth, found):
    """AP of each class of one recording by protocol `rvt` for GEN1."""
    images = {label: [] for label in range(2)}
    for t_us in _plain_times(truth):
        labelled = [(xywh, label) for t, xywh, label, _ in truth if t == t_us and _big(xywh, t)]
        before = [t for t, *_ in found if t_us - 50_000 <= t <= t_us]
        answer = [row for row in found if before and row[0] == max(before)]
        answer = [row for row in answer if _big(row[1], row[0]) and row[3] >= 0.001]
        for label in images if labelled else ():
            own = [(score, xywh) for _, xywh, of, score in answer if of == label]
            images[label].append(([xywh for xywh, of in labelled if of == label], own))
    limits = np.linspace(0.5, 0.95, 10)
    return [np.mean([_plain_ap(images[label], limit) for limit in limits]) for label in range(2)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_second_implementation_gives_the_same_numbers(seed):
    rng = np.random.default_rng(seed)
    times = 350_000 + 250_000 * np.arange(8) + rng.choice([0, 0, 0, -2_000, 2_000, 2_001, 90_000], 8)

    def boxes(count, shift):
        # One box of a class in each of few places, so that overlaps differ and no two boxes tie.
        place = rng.integers(0, 4, count)
        xywh = np.stack((60 * place, 20 + 0 * place, 40 - 11 * (place == 3), 31 - 22 * (place == 2)), 1)
        xywh[:, 0] += shift
        xywh[:, 2] -= rng.integers(0, 3, count) * 5
        return [tuple(row) for row in xywh.tolist()]

    def row_list(count, stamps, shift, scores):
        values = (rng.choice(stamps, count), boxes(count, shift), rng.integers(0, 2, count), scores)
        rows = [(int(t), xywh, int(label), score) for t, xywh, label, score in zip(*values)]
        return list({(t, xywh[0] // 60, label): row for row in rows for t, xywh, label, _ in [row]}.values())

    truth = row_list(20, times, 0, np.ones(20))
    offsets = np.array([-50_001, -50_000, -5_000, 0, 0, 0, 1])
    stamps = (times[:, None] + offsets).ravel()
    # Exact in float32, distinct; the lowest lie below 0.001.
    scores = (rng.permutation(60) / 2**10 * 0.75).astype(np.float32).astype(float)
    found = row_list(60, stamps, rng.integers(0, 4, 60), scores)
    metrics = evaluate(_frames(found), _frames(truth), protocols.of("rvt"), CLASSES)
    np.testing.assert_allclose(metrics.ap_per_class, _plain_rvt(truth, found), atol=1e-9, rtol=0)
