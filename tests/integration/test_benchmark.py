import json

import pytest

from jaxdet import benchmark

CONFIG = """
from jaxdet import config as c

def get_config():
    cfg = c.synthetic()
    cfg.model = c.hmnet("b1", 2, widths=(32,), num_heads=(1,), out_features=64)
    cfg.model.image_size = (64, 64)
    cfg.data.height = cfg.data.width = 64
    return cfg
"""


@pytest.mark.slow  # compiles each step of the cycle
def test_latency_and_throughput_are_written_with_their_unit(tmp_path, capsys):
    config, out = tmp_path / "tiny.py", tmp_path / "figures.json"
    config.write_text(CONFIG)
    flags = [f"--config={config}", "--fast", "--batch_sizes=2", "--events=50", "--pairs=2", f"--out={out}"]
    assert benchmark.main(flags) == 0
    report = json.loads(out.read_text())
    assert report.pop("format_version") == 1
    assert report == json.loads(capsys.readouterr().out)
    for name in ("step", "predict_2"):
        assert report[name]["ms"] > 0
        assert abs(report[name]["units"] - report[name]["ms"] / report[name]["unit_ms"]) < 0.01
    assert benchmark.main([]) == 1
    assert "--config" in capsys.readouterr().err


@pytest.mark.slow
def test_evaluation_is_timed_beside_its_full_pass(tmp_path, capsys):
    config = tmp_path / "tiny.py"
    config.write_text(CONFIG)
    flags = [f"--config={config}", "--evaluate", "--duration_ms=500", "--events=50", "--pairs=1"]
    assert benchmark.main(flags) == 0
    report = json.loads(capsys.readouterr().out)["evaluate"]
    assert (
        abs(report["nearest_faster"] - report["full_s"] / report["nearest_s"])
        < 0.1 * report["nearest_faster"]
    )
    assert min(report.values()) > 0


IMAGES = """
from jaxdet import config as c

def get_config():
    return c.small_images("yolox", ("car",), pixels=256, aspect=1.0, epochs=1)
"""


def test_a_side_that_the_strides_do_not_divide_is_refused_before_anything_is_built(tmp_path, capsys):
    config = tmp_path / "tiny.py"
    config.write_text(IMAGES)
    assert benchmark.main([f"--config={config}", "--scaling", "--size=100"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --size=100: expected a multiple of 32")


@pytest.mark.parametrize("text", [None, "", "[]", '{"scaling": [{}]}'])
def test_a_baseline_that_is_no_report_is_named(tmp_path, capsys, text):
    config, baseline = tmp_path / "tiny.py", tmp_path / "baseline.json"
    config.write_text(CONFIG)
    if text is not None:
        baseline.write_text(text)
    assert benchmark.main([f"--config={config}", "--scaling", f"--baseline={baseline}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --baseline={baseline}: expected the --out of a run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "name"), [(CONFIG, "train_2x3_steps"), (IMAGES, "train_2")], ids=["events", "images"]
)
def test_a_training_step_of_either_kind_is_timed(tmp_path, capsys, text, name):
    config = tmp_path / "tiny.py"
    config.write_text(text)
    flags = [f"--config={config}", "--train", "--steps=3", "--events=50", "--size=256"]
    assert benchmark.main([*flags, "--batch_sizes=2", "--pairs=2"]) == 0
    report = json.loads(capsys.readouterr().out)[name]
    assert report["device_mib"] > 1
    assert abs(report["units"] - report["ms"] / report["unit_ms"]) < 0.01
