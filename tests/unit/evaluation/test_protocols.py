"""Event protocols on hand-made recordings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet.errors import InputError
from jaxdet.evaluation import labels, protocols
from jaxdet.evaluation.evaluator import evaluate

HMNET, WINDOW50, TOOLBOX = (protocols.of(name) for name in ("hmnet", "window50", "toolbox"))


def _rows(*boxes):
    """Rows of (t_us, x, y, w, h, label, score)."""
    values = np.array(boxes, np.float64).reshape(-1, 7)
    return protocols.Rows(
        values[:, 0].astype(np.int64),
        values[:, 1:5].astype(np.float32),
        values[:, 5].astype(np.int64),
        values[:, 6].astype(np.float32),
    )


def _frames(name, *boxes):
    """Frames of a recording from (t_us, x, y, w, h, label, score)."""
    columns = ("t", *"xywh", "class_id", "class_confidence")
    kinds = ("<i8", *["<f4"] * 4, "<u4", "<f4")
    table = np.zeros(len(boxes), list(zip(columns, kinds, strict=True)))
    for column, values in zip(columns, np.array(boxes, np.float64).reshape(-1, 7).T, strict=True):
        table[column] = values
    return labels.of_table(table, name, name)


def _evaluate(*recordings):
    """Metrics of recordings, each as rows of labels and of detections."""
    parts = [
        [_frames(f"r{i}", *rows) for i, rows in enumerate(side)] for side in zip(*recordings, strict=True)
    ]
    truth, found = ([boxes for frames in part for boxes in frames] for part in parts or ([], []))
    return evaluate(found, truth, "hmnet", ("car", "pedestrian"))


BOX = (20, 20, 40, 30, 0, 1)


def test_filters_drop_the_first_half_second_and_small_boxes():
    boxes = _rows(
        (500_000, *BOX),  # not after 0.5 s
        (500_001, *BOX),
        (600_000, 0, 0, 9.99, 40, 0, 1),  # narrow
        (600_000, 0, 0, 40, 9.99, 0, 1),  # flat
        (600_000, 0, 0, 18, 24, 0, 1),  # diagonal of exactly 30
        (600_000, 0, 0, 18, 23.9, 0, 1),  # just under
        (600_000, 0, 0, 10, 40, 0, 1),
    )
    kept = HMNET.keep(boxes.t_us, boxes.xywh[:, 2], boxes.xywh[:, 3])
    assert kept.tolist() == [False, True, False, False, True, False, True]
    kept = TOOLBOX.keep(boxes.t_us, boxes.xywh[:, 2], boxes.xywh[:, 3])
    assert kept.tolist() == [True, True, False, False, False, False, False]


def test_nearest_stamp_only_and_of_two_equally_near_the_earlier():
    truth = _rows((1_000_000, *BOX))
    found = _rows((995_000, *BOX[:5], 0.1), (1_005_000, *BOX[:5], 0.2), (990_000, *BOX[:5], 0.3))
    _, _, matched = protocols.match(truth, found, HMNET)
    np.testing.assert_allclose(matched.scores, [0.1])


def test_tolerance_is_strict_for_hmnet_and_closed_for_window50():
    truth = _rows((1_000_000, *BOX))
    for offset, hmnet, window50 in ((24_999, 1, 1), (25_000, 0, 1), (50_000, 0, 1), (50_001, 0, 0)):
        for sign in (-1, 1):
            found = _rows((1_000_000 + sign * offset, *BOX))
            assert len(protocols.match(truth, found, HMNET)[2].scores) == hmnet
            assert len(protocols.match(truth, found, WINDOW50)[2].scores) == window50


def test_small_boxes_do_not_make_a_stamp_the_nearest():
    truth = _rows((1_000_000, *BOX))
    found = _rows((1_000_000, 0, 0, 5, 5, 0, 0.9), (1_010_000, *BOX[:5], 0.4))
    np.testing.assert_allclose(protocols.match(truth, found, HMNET)[2].scores, [0.4], rtol=1e-6)


def test_one_stamp_serves_two_label_times():
    truth = _rows((1_000_000, *BOX), (1_010_000, *BOX))
    times, _, matched = protocols.match(truth, _rows((1_005_000, *BOX)), HMNET)
    assert times.tolist() == [1_000_000, 1_010_000]
    assert matched.image.tolist() == [0, 1]


def test_candidates_rank_as_the_matching_does():
    steps = np.arange(1, 13) * 5_000
    ranked = steps[HMNET.candidates(30_000, steps)]
    assert ranked.tolist() == [30_000, 25_000, 35_000, 20_000, 40_000, 15_000, 45_000, 10_000, 50_000]
    assert steps[HMNET.candidates(31_000, steps)][:3].tolist() == [30_000, 35_000, 25_000]
    assert len(WINDOW50.candidates(30_000, steps)) == 12


def test_recordings_without_boxes_are_legal():
    perfect = ((1_000_000, *BOX),)
    assert _evaluate(((), ())).statistics.tolist() == [-1] * 12
    assert _evaluate((perfect, ())).statistics[0] == 0
    assert _evaluate(((), perfect)).statistics[0] == -1
    # One box of two is found and ranks first: precision is 1 up to a recall of a half (51 of 101 points).
    metrics = _evaluate((perfect, ()), (perfect, perfect), ((), ()))
    assert abs(metrics.statistics[0] - 51 / 101) < 1e-9
    assert metrics.ap_per_class[1] == -1


def test_a_label_outside_the_classes_is_named():
    with pytest.raises(InputError, match="class 7 found, expected 0 to 1"):
        _evaluate((((1_000_000, 20, 20, 40, 30, 7, 1),), ()))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_of_rows_and_recordings_changes_nothing(seed):
    rng = np.random.default_rng(seed)

    def recording():
        def boxes(count, steps):
            position = rng.uniform(0, 60, (count, 2))
            return np.column_stack(
                (rng.choice(steps, count), position, rng.uniform(8, 60, (count, 2)),
                 rng.integers(0, 2, count), rng.permutation(count) / count + rng.uniform(0, 1e-3))
            )  # fmt: skip

        steps = np.arange(80, 160) * 5_000
        return boxes(12, steps[::10] + 1), boxes(60, steps)

    recordings = [recording() for _ in range(3)]
    plain = _evaluate(*recordings)
    shuffled = [(rng.permutation(t), rng.permutation(f)) for t, f in recordings]
    mixed = _evaluate(*(shuffled[i] for i in rng.permutation(3)))
    np.testing.assert_allclose(mixed.statistics, plain.statistics, atol=1e-12, rtol=0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(90, 120), min_size=1, max_size=12), st.integers(450_000, 600_000))
def test_the_first_candidate_step_with_a_box_is_the_match(steps, t_us):
    """Looking outward from a label finds what matching against all detections finds."""
    stamps = np.array(steps) * 5_000
    found = _rows(*((t, *BOX[:5], t / 1e6) for t in stamps))
    t_us = max(t_us, 500_001)
    _, _, matched = protocols.match(_rows((t_us, *BOX)), found, HMNET)
    grid = np.arange(1, 200) * 5_000
    outward = [t for t in grid[HMNET.candidates(t_us, grid)] if t in stamps and t > HMNET.skip_us][:1]
    assert sorted(set(np.round(matched.scores.astype(float) * 1e6).astype(int))) == outward
