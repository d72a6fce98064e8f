"""The evaluators against the released ones."""

import numpy as np
import pytest
from golden_data import load

from jaxdet.evaluation import labels, protocols, seqyolo_ap
from jaxdet.evaluation.evaluator import evaluate


def _table(arrays, prefix):
    columns = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    table = np.empty(len(columns["t"]), [(k, v.dtype) for k, v in columns.items()])
    for name, column in columns.items():
        table[name] = column
    return table


@pytest.fixture(scope="module", params=["pycocotools", "faster"])
def hmnet(request):
    if request.param == "faster":
        pytest.importorskip("faster_coco_eval")
    golden = load("hmnet/evaluate")
    count = sum(k.startswith("gt") and k.endswith("/t") for k in golden)
    truth, found = (
        [labels.of_table(_table(golden, f"{side}{i}/"), f"rec_{i}", side) for i in range(count)]
        for side in ("gt", "dt")
    )
    joined = ([boxes for frames in part for boxes in frames] for part in (found, truth))
    metrics = evaluate(*joined, "hmnet", ("car", "pedestrian"), request.param)
    return golden, list(zip(truth, found, strict=True)), metrics


def test_hmnet_protocol_gives_the_released_numbers(hmnet):
    golden, _, metrics = hmnet
    np.testing.assert_allclose(metrics.statistics, golden["stats"], atol=1e-9, rtol=0)
    np.testing.assert_allclose(metrics.ap_per_class, golden["ap_per_class"], atol=1e-9, rtol=0)
    np.testing.assert_allclose(metrics.recall, golden["recall"], atol=1e-9, rtol=0)
    # stored as float32
    np.testing.assert_allclose(metrics.precision, golden["precision"], atol=1e-7, rtol=0)
    assert metrics.num_images == golden["num_images"]


def test_hmnet_filter_keeps_the_released_counts(hmnet):
    golden, pairs, _ = hmnet
    protocol = protocols.of("hmnet")
    for i, pair in enumerate(pairs):
        tables = map(protocols.rows, pair)
        kept = [int(protocol.keep(t.t_us, t.xywh[:, 2], t.xywh[:, 3]).sum()) for t in tables]
        assert kept == [golden["filtered_gt_count"][i], golden["filtered_dt_count"][i]]


def test_text_is_coco_s_own(hmnet):
    golden, _, metrics = hmnet
    expected = [line for line in str(golden["printed"]).splitlines() if line.startswith(" Average")]
    assert metrics.table().splitlines()[:12] == expected


def _cases():
    return sorted({k.split("__")[0] for k in load("yolo/evaluate") if k.startswith("ap_")})


@pytest.mark.parametrize("case", _cases())
def test_ap_per_class_of_seq_yolo(case):
    golden = load("yolo/evaluate")
    got = seqyolo_ap.ap_per_class(*(golden[f"{case}__{k}"] for k in ("tp", "conf", "pcls", "tcls")))
    np.testing.assert_array_equal(got.classes, golden[f"{case}__classes"])
    np.testing.assert_allclose(got.ap, golden[f"{case}__ap"], atol=1e-9, rtol=0)
    for name, values in (("p", got.precision), ("r", got.recall), ("f1", got.f1)):
        expected = golden[f"{case}__{name}"]
        np.testing.assert_allclose(
            np.broadcast_to(values[:, None], expected.shape), expected, atol=1e-9, rtol=0
        )


def test_compute_ap_and_fitness():
    golden = load("yolo/evaluate")
    recall, precision = golden["compute_ap__recall_precision"]
    assert abs(seqyolo_ap.compute_ap(recall, precision) - golden["compute_ap__ap"]) < 1e-9
    assert abs(seqyolo_ap.fitness(0.7, 0.4) - golden["fitness"][0]) < 1e-9
