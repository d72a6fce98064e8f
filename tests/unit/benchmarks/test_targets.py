import importlib.util
import math

import pytest

from jaxdet.benchmarks import targets
from jaxdet.errors import InputError


def test_every_row_is_a_device():
    for name, row in targets.TARGETS.items():
        text = targets.description(row)
        assert f"core_count: {row.cores}\n" in text, name
        assert text.count("{") == text.count("}")
        # Products on tensor cores are never slower than on the float32 units, nor float32 than half types.
        assert row.float32 * 0.99 <= row.tensor_float32 <= row.tensor_half, name
        assert 1e9 < row.memory_bytes < 1e12, name
        assert 1e11 < row.memory_bandwidth < 1e13, name
        assert row.shared_bytes[1] <= row.shared_bytes[0], name


def test_peak_of_the_float32_units_is_that_of_the_data_sheet():
    # NVIDIA's data sheets: 67 TFLOPS for H100 SXM, 19.5 for A100, 15.7 for V100 SXM2.
    for name, tera in (("h100", 67), ("a100", 19.5), ("v100", 15.7)):
        assert math.isclose(targets.TARGETS[name].float32, tera * 1e12, rel_tol=0.005)


def test_an_unknown_target_is_one_line():
    with pytest.raises(InputError, match=r"^--target=h300: expected one of v100, a100, .*b200$"):
        targets.find("h300")


def test_a_missing_compiler_is_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^--target=h100: XLA's compiler for CUDA is not installed; pip"):
        targets.devices("h100")
