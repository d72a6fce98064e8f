"""The released test run with fixed predictions: what is written and measured."""

import json
import types

import cv2
import golden_data
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.data.images import sets
from jaxdet.evaluation import images as image_evaluation
from jaxdet.formats import pickle
from jaxdet.inference.images import ItemPredictor, finish
from jaxdet.ops import boxes as box_ops
from jaxdet.ops.select import Candidates, MultiLabel
from jaxdet.structs import Detections

EVALUATE = golden_data.load("yolo/evaluate")
EXPECTED = json.loads(str(EVALUATE["test__pkl_json"]))
LABELS = json.loads(str(EVALUATE["test__gt"]))
# The released pickle leaves out images without boxes: their names do not matter.
NAMES = {int(name.rsplit("_", 1)[1]): name for name in EXPECTED}
BATCH, SIZE, STRIDE = 4, 192, 64
CLASSES = ("human", "bicycle", "motorcycle", "vehicle")


class _Fixed:
    """A detector whose candidates are stored, in the order of the images."""

    def __call__(self, batches):
        rule, rows = MultiLabel(0.1, 0.5), iter(EVALUATE["test__predictions"])
        for batch, shape in zip(batches, EVALUATE["test__batch_shapes"], strict=True):
            assert batch.pixels.shape[1:3] == tuple(shape)
            raw = jnp.asarray(np.stack([next(rows) for _ in batch.items]))
            candidates = Candidates(box_ops.cxcywh_to_xyxy(raw[..., :4]), raw[..., 4], raw[..., 5:])
            selected = rule(candidates, jnp.ones(len(raw), bool))
            yield from finish(batch, Detections(*(array[:, None] for array in selected)))


@pytest.fixture
def items(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    names = [NAMES.get(i, f"Sep_{i:04d}") for i in range(len(LABELS))]
    for name, rows in zip(names, LABELS, strict=True):
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), np.zeros((72, 96), np.uint8))
        text = "".join(f"{int(row[0])} {' '.join(f'{v:.6f}' for v in row[1:])}\n" for row in rows)
        (tmp_path / "labels" / f"{name}.txt").write_text(text)
    found = {item.name: item for item in sets.from_folder(tmp_path / "images")}
    return [found[names[i]] for i in EVALUATE["test__order"]]


@pytest.fixture
def predictor():
    block = types.SimpleNamespace(
        placement="yolov4", size=SIZE, stride=STRIDE, pad=0.5, batch_size=BATCH, classes=CLASSES
    )
    return ItemPredictor(block, _Fixed())


def test_boxes_equal_the_released_pickle(items, predictor):
    found = list(predictor.items(items, sort=True))
    assert {f.item.name for f in found if len(f.boxes)} == set(EXPECTED)
    for result in found:
        if len(result.boxes):
            entry, expected = pickle.scored_entry(result.boxes), EXPECTED[result.item.name]
            assert entry["labels"] == expected["labels"]
            np.testing.assert_allclose(entry["scores"], expected["scores"], rtol=0, atol=1.01e-5)
            # A last bit before rounding to 3 decimals.
            np.testing.assert_allclose(entry["boxes"], expected["boxes"], rtol=0, atol=1.01e-3)


def test_figures_equal_the_released_ones(items, predictor):
    result = image_evaluation.labelled(predictor, items, CLASSES)
    scores = result.seqyolo
    figures = [scores.precision.mean(), scores.recall.mean(), scores.ap[:, 0].mean(), scores.ap.mean()]
    np.testing.assert_allclose(figures, EVALUATE["test__results_P_R_mAP50_mAP"], rtol=1e-6)
    np.testing.assert_allclose(scores.ap.mean(1), EVALUATE["test__maps"][scores.classes], rtol=1e-9)
