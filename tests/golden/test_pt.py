"""Checkpoints that hold whole pickled models: their arrays exactly, their code never."""

import golden_data
import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.weights.torch import file, state_dict

# File -> prefix of its arrays in expected.npz.
FILES = {
    "last_059.pt": "last_059",
    "last_059_legacy_format.pt": "last_059",
    "last_059_syncbn.pt": "last_059",
    "last_059_strip.pt": "last_059_strip_fp16",
    "last_069.pt": "last_069",
    "last_079.pt": "last_079",
    "soup.pt": "soup",
    "plain_state_dict.pt": "soup",
}
WITH_OPTIMIZER = ["last_059.pt", "last_059_legacy_format.pt", "last_069.pt", "last_079.pt"]


@pytest.mark.parametrize("name", FILES)
def test_every_array_of_every_file(name):
    expected, prefix = golden_data.load("pt/expected"), FILES[name]
    contents = state_dict.find(file.load(golden_data.path(f"pt/{name}")))
    assert list(contents.state_dict) == list(expected[f"{prefix}__keys"])
    for key, array in contents.state_dict.items():
        assert array.dtype == expected[f"{prefix}/{key}"].dtype, key
        np.testing.assert_array_equal(array, expected[f"{prefix}/{key}"], err_msg=key)


@pytest.mark.parametrize("name", ["last_059.pt", "last_059_strip.pt", "soup.pt"])
def test_the_model_brings_its_table(name):
    extras = state_dict.find(file.load(golden_data.path(f"pt/{name}"))).extras
    assert extras["yaml"]["nc"] == 4
    assert extras["yaml"]["anchors"] == [[13, 17, 31, 25], [48, 102, 119, 96]]
    assert extras["yaml"]["backbone"][0] == [-1, 1, "Conv", [16, 3, 2]]


@pytest.mark.parametrize("name", WITH_OPTIMIZER)
def test_the_optimizer_state_comes_along(name):
    expected = golden_data.load("pt/expected")
    extras = state_dict.find(file.load(golden_data.path(f"pt/{name}"))).extras
    groups = extras["optimizer"]["param_groups"]
    assert [len(g["params"]) for g in groups] == [expected[f"optimizer/group{i}_len"] for i in range(3)]
    assert extras["best_fitness"].shape == (1,)


def test_momentum_of_the_first_parameter():
    expected = golden_data.load("pt/expected")["optimizer/momentum_first"]
    extras = state_dict.find(file.load(golden_data.path("pt/last_059.pt"))).extras
    momentum = extras["optimizer"]["state"][0]["momentum_buffer"]
    np.testing.assert_array_equal(np.ravel(momentum)[: expected.size], np.ravel(expected))


@pytest.mark.parametrize("name", ["malicious.pt", "malicious_hidden.pt"])
def test_malicious_files_are_refused_and_run_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="nothing was run") as caught:
        file.load(golden_data.path(f"pt/{name}"))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
