"""Files written by torch.save in its two formats: every array bit for bit."""

import golden_data
import ml_dtypes
import numpy as np
import pytest

from jaxdet.weights import families, rules
from jaxdet.weights.torch import file, state_dict

FILES = ["hmnet_tiny_state_dict.pth", "hmnet_tiny_state_dict_legacy.pth"]
CHECKPOINTS = ["hmnet_tiny_checkpoint.pth.tar", "hmnet_tiny_checkpoint_legacy.pth.tar"]


def loaded(name):
    path = golden_data.path(f"pth/{name}")
    if not path.exists():
        pytest.skip(f"{path} is not shipped; the same object in the other format is")
    return file.load(path)


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", FILES + CHECKPOINTS)
def test_state_dict_is_bit_for_bit(name):
    expected = golden_data.load("pth/hmnet_tiny_expected")
    contents = state_dict.find(loaded(name))
    assert list(contents.state_dict) == list(expected["key_order"])
    for key, array in contents.state_dict.items():
        assert_same(array, expected[f"state_dict/{key}"])


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_optimizer_and_scaler_are_bit_for_bit(name):
    expected = golden_data.load("pth/hmnet_tiny_expected")
    extras = state_dict.find(loaded(name)).extras
    assert extras["epoch"] == expected["epoch"]
    assert extras["scaler"] == {
        k.removeprefix("scaler/"): v for k, v in expected.items() if k.startswith("scaler/")
    }
    for i, group in enumerate(extras["optimizer"]["param_groups"]):
        assert group["params"] == list(expected[f"optimizer/group{i}_params"])
        assert [group["lr"], group["weight_decay"]] == list(expected[f"optimizer/group{i}_lr_wd"])
    state = extras["optimizer"]["state"]
    for key, array in expected.items():
        if key.startswith("optimizer/state/"):
            index, name = key.removeprefix("optimizer/state/").split("/")
            assert_same(state[int(index)][name], array)


@pytest.mark.parametrize("name", ["odd_tensors.pth", "odd_tensors_legacy.pth"])
def test_odd_storages(name):
    expected, actual = golden_data.load("pth/odd_tensors_expected"), loaded(name)
    assert actual.keys() == expected.keys()
    assert actual["bfloat16"].dtype == ml_dtypes.bfloat16
    for key, array in expected.items():
        if key == "bfloat16":
            assert_same(actual[key].astype(np.float32), array)
        else:
            assert_same(actual[key], array)


@pytest.mark.parametrize("name", FILES)
def test_round_trip_through_the_tree_is_exact(name):
    before = state_dict.find(loaded(name)).state_dict
    variables, _ = rules.from_torch(before, families.HMNET)
    after = rules.to_torch(variables, families.HMNET)
    assert list(after) == list(before)
    for key, array in before.items():
        assert_same(after[key], array)
