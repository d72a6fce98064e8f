import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.weights import checkpoint, families, rules
from jaxdet.weights.load import load
from jaxdet.weights.torch import file

STATE = {
    "bbox_head.levels.0.cls_conv.0.bn.weight": np.arange(3, dtype=np.float32),
    "bbox_head.levels.0.cls_conv.0.bn.running_mean": np.ones(3, np.float32),
    "bbox_head.levels.0.cls_pred.bias": np.ones(2, np.float32),
}
VARIABLES = rules.from_torch(STATE, families.HMNET)[0]


def bias(variables):
    return variables.params["head"]["levels"]["0"]["cls_pred"]["bias"]


@pytest.fixture
def places(tmp_path):
    file.save(tmp_path / "bare.pth", STATE)
    file.save(tmp_path / "wrapped.pt", {"epoch": 1, "state_dict": STATE})
    checkpoint.save_weights(tmp_path / "converted", VARIABLES, {"model": {"num_classes": 2}})
    return tmp_path


@pytest.mark.parametrize("name", ["bare.pth", "wrapped.pt", "converted"])
def test_every_place_gives_the_same_weights(places, name):
    variables, report = load(places / name, families.HMNET, VARIABLES)
    assert bias(variables).tolist() == [1, 1]
    assert variables.batch_stats["head"]["levels"]["0"]["cls_conv"]["0"]["norm"]["mean"].tolist() == [1, 1, 1]
    assert len(report.pairs) == 3


@pytest.mark.parametrize("name", ["bare.pth", "converted"])
def test_another_class_count_is_an_error_or_a_fresh_head(places, name):
    other = rules.from_torch(STATE | {"bbox_head.levels.0.cls_pred.bias": np.full(5, 9.0)}, families.HMNET)[0]
    with pytest.raises(InputError, match=rf"{name}.*\[2\] in the file, \[5\] in the model"):
        load(places / name, families.HMNET, other)
    variables, report = load(places / name, families.HMNET, other, lenient=True)
    assert bias(variables).tolist() == [9] * 5
    assert report.missing == ["params.head.levels.0.cls_pred.bias"]
    assert report.num_classes == (2 if name == "converted" else None)  # the file is a part of a model


def test_places_without_weights_are_refused(places):
    for name in ("none", ""):
        with pytest.raises(InputError, match="expected"):
            load(places / name, families.HMNET, VARIABLES)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_named(tmp_path, value):
    spoilt = {**STATE, "bbox_head.levels.0.cls_pred.bias": np.array([1, value], np.float32)}
    file.save(tmp_path / "spoilt.pth", spoilt)
    with pytest.raises(InputError, match=r"spoilt.pth: 1 of 3 arrays .* params.head.levels.0.cls_pred.bias"):
        load(tmp_path / "spoilt.pth", families.HMNET, VARIABLES)
