"""A tiny detector of each kind beside its own exported file."""

import json

import pytest

from jaxdet import benchmark

IMAGES = """
from jaxdet import config as c

def get_config():
    return c.small_images("yolox", ("car",), pixels=64, aspect=1.0, epochs=1)
"""
EVENTS = """
from jaxdet import config as c

def get_config():
    cfg = c.synthetic()
    cfg.model = c.hmnet("b1", 2, widths=(32,), num_heads=(1,), out_features=64)
    cfg.model.image_size = (64, 64)
    cfg.data.height = cfg.data.width = 64
    return cfg
"""


@pytest.mark.runtimes
@pytest.mark.parametrize("text", [IMAGES, EVENTS])
def test_every_runtime_is_a_row_with_its_ratio(text, tmp_path, capsys):
    (tmp_path / "tiny.py").write_text(text)
    flags = [f"--config={tmp_path / 'tiny.py'}", "--runtimes", "--pairs=3", "--events=512"]
    assert benchmark.main(flags) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["jaxdet"]["ratio_to_jaxdet"] == 1
    assert report["onnxruntime"]["ms"] > 0


def test_a_peer_that_is_not_there_is_one_line(tmp_path, capsys):
    flags = ["--config=coco_yolox:nano", "--runtimes", f"--peers={tmp_path / 'other.onnx'}"]
    assert benchmark.main(flags) == 1
    assert "other.onnx: no such file" in capsys.readouterr().err
