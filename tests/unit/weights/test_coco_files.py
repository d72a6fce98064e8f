"""The released files that `--init=coco` stands for."""

import json

import pytest
from ml_collections import ConfigDict

from jaxdet import config as c
from jaxdet.errors import InputError
from jaxdet.weights import coco_files


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (c.yolox("nano", 3), "yolox_nano.pth"),
        (c.yolox("nano", 3, depthwise=False), None),
        (c.yolox("l", 80, dtype="bfloat16"), "yolox_l.pth"),
        (c.yolov4("p6", 3), "yolov4-p6.pt"),
        (c.yolov4("csp", 3, anchors=(((1, 1),),)), "yolov4-csp.pt"),
        (c.yolov4("p5", 3, width=0.25), None),
        (c.hmnet("b1", 2), None),
    ],
)
def test_the_file_of_a_model(model, name):
    stored = ConfigDict(json.loads(model.to_json_best_effort()))  # tuples became lists
    assert coco_files.file_name(model) == coco_files.file_name(stored) == name


def test_folders_in_order_and_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    model = c.yolox("s", 3)
    with pytest.raises(InputError, match=r"no yolox_s\.pth in shelf, weights, \., .*/weights; download"):
        coco_files.find(model, {"JAXDET_WEIGHTS": "shelf"})
    for folder in ("home/.cache/jaxdet/weights", "weights", "shelf"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "yolox_s.pth").touch()
        found = coco_files.find(model, {"JAXDET_WEIGHTS": "shelf"})
        assert (tmp_path / found) == tmp_path / folder / "yolox_s.pth"
    with pytest.raises(InputError, match="this yolox is of no size with released weights"):
        coco_files.find(c.yolox("s", 3, width=0.3))
