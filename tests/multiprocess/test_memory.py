"""What a device holds, planned and seen, and that full sharding divides it."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdet import benchmark, config, sharding
from jaxdet.benchmarks import scaling
from jaxdet.training import setup as runs

FULLY = ((".*", "data"),)
PARTS = ("parameters", "optimizer")


def _config(rules, lanes=4):
    cfg = config.synthetic()
    cfg.model = config.hmnet("b1", 2, widths=(32,), num_heads=(1,), out_features=64, window=16)
    cfg.model.image_size = (64, 64)
    cfg.data.batch_size, cfg.data.height, cfg.data.width = lanes, 64, 64
    cfg.sharding = rules
    return cfg


@pytest.mark.parametrize("rules", [(), FULLY])
def test_a_device_holds_what_the_plan_says(rules):
    cfg = _config(rules)
    run = runs.assemble(cfg, sharding.make_mesh(cfg.data.batch_size))
    parts = run.state.params, run.state.opt_state, run.state.batch_stats, run.state.ema, run.carry
    names = "parameters", "optimizer", "statistics", "averages", "carry"
    plan = scaling.memory_plan(cfg, 4)
    for name, part in zip(names, parts, strict=True):
        for device in jax.devices():
            shards = [s for leaf in jax.tree.leaves(part) for s in leaf.addressable_shards]
            assert sum(s.data.nbytes for s in shards if s.device == device) == plan[name]


def test_fully_sharded_memory_falls_as_one_over_the_devices():
    """Axes that the devices do not divide stay whole: two classes, one objectness, biases of five."""
    whole = scaling.memory_plan(_config((), lanes=16), 8)
    for devices in (2, 4, 8, 16):
        plan = scaling.memory_plan(_config(FULLY, lanes=16), devices)
        for part in PARTS:
            assert plan[part] == pytest.approx(whole[part] / devices, rel=0.03)


def test_place_gives_every_device_its_part_and_keeps_the_values():
    mesh = sharding.make_mesh(4)
    whole = np.arange(24.0).reshape(8, 3)
    placed = sharding.place(whole, sharding.lanes(mesh))
    np.testing.assert_array_equal(placed, whole)
    assert {s.data.shape for s in placed.addressable_shards} == {(2, 3)}


@pytest.mark.slow
def test_scaling_reports_time_share_and_memory(tmp_path):
    path, out = tmp_path / "tiny.py", tmp_path / "figures.json"
    source = Path(__file__).read_text().split("def _config")[1].split("@pytest")[0]
    path.write_text(
        f"from jaxdet import config\n\ndef _config{source}\ndef get_config():\n    return _config(())\n"
    )
    flags = ["--scaling", "--devices=1,4,64", "--steps=3", "--events=20", "--pairs=2", f"--out={out}"]
    assert benchmark.main([f"--config={path}", *flags]) == 0
    one, four, many = json.loads(out.read_text())["scaling"]
    assert one["collectives"] == one["reduce_ms"] == 0
    assert four["collectives"] > 0
    assert four["collective_bytes"] >= four["held_bytes"]["parameters"]  # every gradient is summed
    assert four["efficiency"] == pytest.approx(one["step_ms"] / four["step_ms"], abs=0.01)
    assert four["held_bytes"] == four["planned_bytes"]
    assert "step_ms" not in many
    assert many["planned_bytes"]["carry"] == one["planned_bytes"]["carry"]


@pytest.mark.slow
def test_scaling_of_a_model_of_images(tmp_path):
    out = tmp_path / "figures.json"
    family = Path(__file__).parents[2] / "configs" / "synthetic_ltd.py:yolox"
    tiny = ["--config.model.width=0.125", "--size=64", "--batch_sizes=2", "--devices=1,4,64", "--pairs=2"]
    assert benchmark.main([f"--config={family}", "--scaling", *tiny, f"--out={out}"]) == 0
    one, four, many = json.loads(out.read_text())["scaling"]
    assert one["collectives"] == 0
    assert four["collective_bytes"] >= four["held_bytes"]["parameters"]
    assert four["held_bytes"] == four["planned_bytes"]
    assert "step_ms" not in many
    assert many["planned_bytes"] == one["planned_bytes"]
