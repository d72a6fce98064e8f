"""COCO metrics: a hand-made case, the limits, and the COCO API's own demonstration."""

import os
from pathlib import Path

import numpy as np
import pytest

from jaxdet.evaluation import coco
from jaxdet.evaluation.evaluator import evaluate
from jaxdet.formats import coco as files


def _one(scores, boxes, labels=None, image=None):
    return coco.table(
        np.zeros(len(boxes)) if image is None else image,
        np.array(boxes, float),
        labels or [0] * len(boxes),
        scores,
    )


TRUTH = _one(None, [[0, 0, 10, 10], [50, 50, 10, 10]])


def test_average_precision_by_hand():
    # Found: a miss at 0.9, a hit at 0.8. Precision 0, 1/2; recall 0, 1/2: 1/2 on 51 of 101 recall points.
    found = _one([0.9, 0.8], [[200, 200, 10, 10], [0, 0, 10, 10]])
    metrics = coco.average_precision(TRUTH, found, 1, ["thing"])
    np.testing.assert_allclose(metrics.statistics[:4], 0.5 * 51 / 101, atol=1e-12)
    assert metrics.statistics[4] == -1  # no medium box
    assert metrics.statistics[6] == 0  # the single best detection is the miss
    assert metrics.statistics[8] == 0.5


def test_only_the_hundred_best_of_an_image_and_class_count():
    boxes = [[i * 20.0, 0, 10, 10] for i in range(150)]
    found = _one(np.linspace(0.1, 0.9, 150), boxes)
    metrics = coco.average_precision(_one(None, boxes[:50] + boxes[-5:]), found, 1, ["thing"])
    assert abs(metrics.statistics[8] - 5 / 55) < 1e-12
    assert metrics.num_detections == 150


def test_crowds_swallow_detections():
    truth = coco.table([0, 0], np.array([[0, 0, 10.0, 10], [40, 40, 40, 40]]), [0, 0], crowd=[0, 1])
    found = _one([0.9, 0.8, 0.7], [[41, 41, 5, 5], [45, 45, 9, 9], [0, 0, 10, 10]])
    assert coco.average_precision(truth, found, 1, ["thing"]).statistics[0] == pytest.approx(1)


def test_results_without_boxes_score_zero():
    metrics = coco.average_precision(TRUTH, _one([], []), 1, ["thing", "other"])
    assert metrics.statistics[0] == 0
    assert metrics.ap_per_class.tolist() == [0, -1]
    assert [line.split()[0] for line in metrics.table().splitlines()[12:]] == [metrics.class_names[0], "1"]
    assert coco.average_precision(_one(None, []), _one([], []), 0, ["thing"]).statistics[0] == -1


@pytest.mark.data
@pytest.mark.parametrize("backend", ["pycocotools", "faster"])
def test_demonstration_of_the_coco_api(backend):
    if backend == "faster":
        pytest.importorskip("faster_coco_eval")
    root = os.environ.get("JAXDET_REAL_DATA")
    if not root:
        pytest.skip("JAXDET_REAL_DATA names the folder of real data")
    folder = Path(root) / "coco"
    labels = files.read_annotations(folder / "instances_val2014_100.json")
    found = files.read_results(folder / "instances_val2014_fakebbox100_results.json", labels)
    metrics = evaluate(found.frames, labels.frames, "coco", labels.class_names, backend)
    assert not metrics.report
    expected = [
        0.5045806987249628, 0.6969727247299577, 0.5729816669904824, 0.5856257209410443, 0.5193996948036719,
        0.5013978986347466, 0.38681277964578054, 0.5936795762842003, 0.595352982877607, 0.6398109626113442,
        0.5664205978994309, 0.5642905982905982,
    ]  # fmt: skip
    np.testing.assert_allclose(metrics.statistics, expected, atol=1e-9, rtol=0)
