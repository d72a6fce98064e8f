import golden_data
import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.nn.functional import Variables
from jaxdet.weights import families, optimizer, rules
from jaxdet.weights.torch import file, state_dict


def checkpoint():
    contents = state_dict.find(file.load(golden_data.path("pth/hmnet_tiny_checkpoint.pth.tar")))
    variables, _ = rules.from_torch(contents.state_dict, families.HMNET)
    return variables, contents.extras["optimizer"]


@pytest.mark.parametrize("size", ["B1", "B3"])
def test_groups_are_those_of_the_released_recipe(size):
    manifest = golden_data.manifest("hmnet")[size]
    shapes = {key: np.broadcast_to(np.float32(0), shape) for key, shape, _ in manifest["state_dict"]}
    plain, decayed = optimizer.groups({key: shapes[key] for key in manifest["parameters_in_order"]})
    assert plain == manifest["no_weight_decay"]
    assert len(decayed) == manifest["weight_decay_tensors"]


def test_state_goes_to_the_tree_and_back_exactly():
    variables, state = checkpoint()
    moments = optimizer.from_torch(state, families.HMNET, variables.params)
    again = optimizer.to_torch(moments, families.HMNET, lr=2e-4, weight_decay=0.01)
    assert list(again) == list(state)
    assert again["param_groups"] == state["param_groups"]
    assert list(again["param_groups"][0]) == list(state["param_groups"][0])
    assert again["state"].keys() == state["state"].keys()
    for index, entry in state["state"].items():
        for name, array in entry.items():
            assert again["state"][index][name].dtype == array.dtype
            np.testing.assert_array_equal(again["state"][index][name], array)


def test_a_moment_lies_where_its_parameter_lies():
    variables, state = checkpoint()
    names = golden_data.load("pth/hmnet_tiny_expected")["optimizer/parameter_names_by_index"]
    moments = optimizer.from_torch(state, families.HMNET, variables.params)
    flat = rules.to_torch(Variables(moments.second, {}), families.HMNET)
    for index, name in enumerate(names):
        np.testing.assert_array_equal(flat[name], state["state"][index]["exp_avg_sq"])


def test_a_state_of_other_parameters_is_refused():
    variables, state = checkpoint()
    fewer = {"state": {}, "param_groups": [{"params": [0]}, {"params": []}]}
    with pytest.raises(InputError, match="the model has"):
        optimizer.from_torch(fewer, families.HMNET, variables.params)
    wrong = state | {"state": state["state"] | {0: state["state"][0] | {"exp_avg": np.ones(3)}}}
    with pytest.raises(InputError, match="does not fit"):
        optimizer.from_torch(wrong, families.HMNET, variables.params)
    with pytest.raises(InputError, match="no AdamW state"):
        optimizer.from_torch({"momentum": 1}, families.HMNET, variables.params)
