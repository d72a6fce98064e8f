import runpy
from pathlib import Path

import golden_data
import numpy as np
import pytest

from jaxdet import convert
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.weights import checkpoint, families, rules
from jaxdet.weights.torch import file, state_dict

CONFIG = Path(__file__).parents[2] / "configs" / "gen1_hmnet.py"


def released(size):
    state = golden_data.hmnet_weights(size)
    order = [entry[0] for entry in golden_data.manifest("hmnet")[size]["state_dict"]]
    table = families.relative_position_indices(7)
    return {key: state.get(key, table) for key in order}


def empty(size):
    table = families.relative_position_indices(7)
    entries = golden_data.manifest("hmnet")[size]["state_dict"]
    return {k: table if k.endswith("indices") else np.zeros(shape, dtype) for k, shape, dtype in entries}


# The large one takes 20 s; its names are looked at below.
@pytest.mark.parametrize("size", ["B1", pytest.param("B3", marks=pytest.mark.slow)])
def test_a_released_file_goes_to_a_folder_and_back(tmp_path, capsys, size):
    before = released(size)
    file.save(tmp_path / "released.pth", {"epoch": 90, "state_dict": before})
    config = f"--config={CONFIG}:{size.lower()}"
    out, back = tmp_path / "weights", tmp_path / "back.pth"
    assert convert.main([config, f"--torch={tmp_path / 'released.pth'}", f"--out={out}", "--report"]) == 0
    printed = capsys.readouterr().out
    assert all(key in printed for key in before)
    assert checkpoint.load_weights(out)[1]["model"]["name"] == "hmnet"
    assert convert.main([config, f"--weights={out}", f"--to_torch={back}"]) == 0
    after = state_dict.find(file.load(back)).state_dict
    assert list(after) == list(before)
    for key, array in before.items():
        assert after[key].dtype == array.dtype
        np.testing.assert_array_equal(after[key], array, err_msg=key)


@pytest.mark.parametrize("size", ["L1", "B3", "L3"])
def test_the_other_sizes_fit_their_configs(size):
    cfg = runpy.run_path(str(CONFIG))["get_config"](size.lower())
    _, target = functional.abstract(lambda: from_config.build(cfg, 0))
    _, report = rules.from_torch(empty(size), families.HMNET, target)
    assert not report.missing


def test_what_does_not_fit_is_one_line(tmp_path, capsys):
    file.save(tmp_path / "b1.pth", empty("B1"))
    config = f"--config={CONFIG}:b3"
    for flags, why in (
        ([config, f"--torch={tmp_path / 'b1.pth'}", f"--out={tmp_path / 'w'}"], "check size and class count"),
        (
            [config, f"--torch={golden_data.path('pt/malicious.pt')}", f"--out={tmp_path / 'w'}"],
            "posix.system",
        ),
        ([config, f"--torch={tmp_path / 'b1.pth'}"], "give --torch and --out"),
        ([f"--torch={tmp_path / 'b1.pth'}", f"--out={tmp_path / 'w'}"], "missing --config"),
    ):
        assert convert.main(flags) == 1
        line = capsys.readouterr().err
        assert why in line
        assert line.count("\n") == 1
    assert not (tmp_path / "w").exists()
