"""The commands of the thermal tutorial run as they stand, on thirty simulated frames of small size."""

import json
import re
import shlex
import time
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from jaxdet import __main__ as commands
from jaxdet import config_files
from jaxdet.data.images import sets
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.weights import families, rules
from jaxdet.weights.torch import file

PAGE = Path(__file__).parents[2] / "docs" / "tutorial_thermal.md"
SMALL = {"train": ["--config.data.size=64", "--config.train.epochs=3", "--config.data.plain_epochs=1"]}


def _frames(count):
    """Grey frames with a warm person and a warmer car, and their label lines."""
    rng = np.random.default_rng(0)
    for i in range(count):
        frame = rng.normal(90, 4, (96, 128)).clip(0, 255).astype(np.uint8)
        x, y = 10 + 2 * i, 30 + i % 7
        frame[y : y + 24, x : x + 10] = 200
        frame[60:76, 80 - i : 108 - i] = 240
        boxes = ((0, x, y, 10, 24), (1, 80 - i, 60, 28, 16))
        yield (
            frame,
            [
                f"{label} {(a + w / 2) / 128:.6f} {(b + h / 2) / 96:.6f} {w / 128:.6f} {h / 96:.6f}"
                for label, a, b, w, h in boxes
            ],
        )


@pytest.fixture
def start(tmp_path, monkeypatch):
    """The folder that the page begins with; the weights are of 80 classes and random."""
    for name in ("mine/images", "mine/labels", "weights"):
        (tmp_path / name).mkdir(parents=True)
    film = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (128, 96))
    for i, (frame, lines) in enumerate(_frames(30)):
        cv2.imwrite(str(tmp_path / "mine" / "images" / f"f_{i:04d}.jpg"), frame)
        (tmp_path / "mine" / "labels" / f"f_{i:04d}.txt").write_text("\n".join(lines) + "\n")
        film.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    film.release()
    (tmp_path / "mine" / "data.yaml").write_text("train: images\nnames: [person, car]\n")
    cfg = config_files.load("coco_yolox:nano")
    variables = functional.split(from_config.build(cfg, 0))[1]
    state = rules.to_torch(jax.tree.map(np.asarray, variables), families.of_config(cfg.model))
    file.save(tmp_path / "weights" / "yolox_nano.pth", {"model": state})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAXDET_WEIGHTS", raising=False)
    return tmp_path


@pytest.mark.docs
def test_four_commands_lead_to_a_report_and_a_smoothed_video(start, caplog):
    block = re.search(r"## Four commands\n\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    lines = [shlex.split(line) for line in block.splitlines()]
    assert len(lines) == 4
    assert lines[0] == ["pip", "install", "jaxdet"]
    for words in lines[1:]:
        began = time.perf_counter()
        with caplog.at_level("INFO"):
            assert commands.main([*words[1:], *SMALL.get(words[1], [])]) == 0, words
        print(f"{words[1]}: {time.perf_counter() - began:.0f} s")
    assert "(of 80 classes, not 2: the last layer begins anew)" in caplog.text
    assert "#train: 24 images, 0 backgrounds, 0 left out" in caplog.text
    assert json.loads((start / "evaluation.json").read_text())["num_images"] == 6
    assert (start / "report" / "report.html").stat().st_size > 10_000
    video = sets.VideoFile(start / "smooth.webm")
    assert len(list(video)) == 30
    assert (start / "boxes.csv").is_file()
    assert all((start / "runs" / "mine" / f"batch_{step}.jpg").is_file() for step in range(3))
