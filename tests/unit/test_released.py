"""Configs of released files are those of configs/, and what the file does not say is told."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import released_files
from yolo_models import abstract

from jaxdet import class_names, config
from jaxdet.errors import InputError
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.released import config_of
from jaxdet.training.setup import as_json
from jaxdet.weights import families, rules
from jaxdet.weights.identify import Identity, identify
from jaxdet.weights.torch.state_dict import Contents

STORED = json.loads((Path(__file__).parents[1] / "configs.json").read_text())


def released(family, name, **overruled):
    return config_of(identify(released_files.of_manifest(family, name)), **overruled)


def stored(family, name):
    if family == "hmnet":
        return STORED[f"gen1_hmnet:{name.lower()},short"]
    if family == "yolox":
        return STORED[f"coco_yolox:{name}"]
    size, _, classes = name.partition("_nc")
    return STORED[f"{'coco' if classes == '80' else 'ltd'}_yolov4:{size}"]


@pytest.mark.parametrize(("family", "name"), [x for x in released_files.ALL if x[1] != "csp_nc4"])
def test_blocks_are_those_of_the_config_file(family, name):
    found, expected = released(family, name), stored(family, name)
    assert found.size == name.partition("_nc")[0].lower()
    blocks = as_json(found.config)
    assert blocks["model"] == expected["model"]
    assert blocks["data"] == expected["data"]


def test_csp_differs_from_its_config_file_in_what_four_classes_change():
    blocks, expected = as_json(released("yolov4", "csp_nc4").config), STORED["coco_yolov4:csp"]
    other = {k for k in blocks["model"] if blocks["model"][k] != expected["model"][k]}
    assert other == {"num_classes", "min_score", "nms_iou"}
    assert blocks["data"]["size"] == expected["data"]["size"]
    assert blocks["data"]["stride"] == expected["data"]["stride"]


@pytest.mark.parametrize(
    ("family", "name", "assumed"),
    [
        ("hmnet", "B1", ["car, pedestrian", "304x240"]),
        ("hmnet", "B3", ["car, pedestrian", "304x240", "every 1, 3, 9 steps"]),
        ("yolox", "tiny", ["COCO", "416"]),
        ("yolov4", "p6_nc4", ["human, bicycle, motorcycle, vehicle", "1280", "from 0.1 and NMS at IoU 0.5"]),
    ],
)
def test_what_is_assumed_is_said_in_one_line(family, name, assumed):
    found = released(family, name)
    assert len(found.guessed) == len(assumed)
    for sentence, word in zip(found.guessed, assumed, strict=True):
        assert word in sentence
        assert sentence in found.line()
    assert "\n" not in found.line()


def test_what_is_given_overrules_and_is_not_assumed():
    found = released("yolox", "nano", size=320, classes=[f"c{i}" for i in range(80)])
    assert found.config.data.size == 320
    assert found.config.data.classes[-1] == "c79"
    assert not found.guessed
    assert found.line() == "YOLOX-nano, 80 classes"
    found = released("hmnet", "B1", sensor="304x240", classes=("a", "b"))
    assert not found.guessed
    assert tuple(found.config.model.image_size) == (240, 304)


def test_a_sensor_tells_the_side_of_a_cell():
    # 60 x 76 cells of 16 pixels, and 76 x 60 of 4.
    wide = released("hmnet", "B1", sensor=(960, 1216)).config
    assert (wide.model.window, wide.model.image_size, wide.data.height) == (16, (960, 1216), 960)
    tall = released("hmnet", "B1", sensor="240x304").config
    assert (tall.data.height, tall.data.width) == (304, 240)
    assert "window" not in tall.model


@pytest.mark.parametrize(
    ("family", "name", "overruled", "message"),
    [
        ("hmnet", "B1", {"sensor": "640x480"}, "19200 cells of 4 pixels a side, the file 4560 cells"),
        ("hmnet", "B1", {"sensor": "240"}, "expected WIDTHxHEIGHT"),
        ("hmnet", "B1", {"sensor": (240, 0)}, r"expected \(height, width\)"),
        ("hmnet", "B1", {"size": 640}, "HMNet takes --model_sensor"),
        ("yolox", "s", {"sensor": "304x240"}, "YOLOX takes --size"),
        ("yolox", "s", {"size": 0}, "expected pixels"),
        ("yolox", "s", {"classes": ("a", "b")}, "expected 80 different names"),
        ("hmnet", "B1", {"classes": ("a", "a")}, "expected 2 different names"),
        ("hmnet", "B1", {"classes": "ab"}, "expected 2 different names"),
    ],
)
def test_what_does_not_fit_the_file_is_refused(family, name, overruled, message):
    with pytest.raises(InputError, match=message):
        released(family, name, **overruled)


def test_classes_that_no_table_knows_are_numbered():
    contents = released_files.of_manifest("yolox", "s")
    few = released_files.changed(contents, **{f"cls_preds__{i}__weight": (3, 128, 1, 1) for i in range(3)})
    found = config_of(identify(few))
    assert found.config.data.classes == ("class_0", "class_1", "class_2")
    assert found.config.model.num_classes == 3
    assert found.size == "s"
    assert "class_0 ... class_2" in found.guessed[0]


def test_names_in_the_file_come_before_the_table():
    names = ["Person", "Car", "Bicycle", "OtherVehicle"]
    found = config_of(identify(released_files.of_manifest("yolov4", "p5_nc4", names=names)))
    assert found.config.data.classes == tuple(names)
    assert found.config.data.root != "data/ltd"
    # The same names in capitals are the data set's.
    names = [n.capitalize() for n in class_names.LTD]
    found = config_of(identify(released_files.of_manifest("yolov4", "p5_nc4", names=names)))
    assert found.config.data.classes == class_names.LTD


def test_other_anchors_stay_with_the_model():
    contents = released_files.of_manifest("yolov4", "p5_nc4")
    key = next(k for k in contents.state_dict if k.endswith("anchor_grid"))
    refitted = Contents(contents.state_dict | {key: contents.state_dict[key] * 2}, "")
    found = config_of(identify(refitted))
    assert found.size == "p5"
    assert found.config.model.anchors[0][0] == (26, 34)


@pytest.mark.parametrize("name", ["last_059.pt", "plain_state_dict.pt"])
def test_a_reduced_yolov4_is_filled_by_its_file(name):
    contents = released_files.of_file(f"pt/{name}")
    with pytest.raises(InputError, match=r"4 stages and 2 levels.*--size"):
        config_of(identify(contents))
    found = config_of(identify(contents), size=128)
    assert found.size is None
    assert (found.config.data.size, found.config.data.stride) == (128, 16)
    block = found.config.model
    rules.from_torch(contents.state_dict, families.of_config(block), abstract(block)[1])


def test_a_reduced_hmnet_of_one_memory_is_built_from_shapes():
    changes = {"widths": (32,), "num_heads": (2,), "out_features": 64, "event_features": 8, "window": 16}
    block = config.hmnet("b1", 3, **changes)
    whole = config.block(model=block, data=config.gen1())
    _, shapes = functional.abstract(lambda: from_config.build(whole, 0))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    contents = Contents(dict(rules.to_torch(zeros, families.HMNET)), "")
    with pytest.raises(InputError, match=r"HMNet of 285 cells.*--model_sensor"):
        config_of(identify(contents))
    found = config_of(identify(contents), sensor="304x240")
    assert found.size is None
    assert found.config.model.to_dict() == block.to_dict()


def test_a_reduced_hmnet_of_three_memories_needs_a_config():
    shown = {
        "widths": (16, 32, 32),
        "num_heads": (2, 2, 2),
        "depths": (1, 3, 9),
        "out_features": 16,
        "event_features": 32,
    }
    with pytest.raises(InputError, match=r"widths \(16, 32, 32\).*not one of b1, l1, b3, l3.*give --config"):
        config_of(Identity("hmnet", 2, shown, cells=4560))


def test_a_yolox_of_another_width_is_built_from_shapes():
    shown = {"width": 0.125, "depth": 2 / 3, "depthwise": True}
    found = config_of(Identity("yolox", 80, shown))
    assert found.size is None
    assert found.config.model.to_dict() == config.yolox("s", 80, **shown).to_dict()
    assert "640" in found.guessed[1]
