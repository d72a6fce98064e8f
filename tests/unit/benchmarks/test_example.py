"""The example says beforehand what it will do and how long it takes."""

import re
from pathlib import Path

from jaxdet import config
from jaxdet.benchmarks import example


def test_more_steps_take_longer():
    cfg = config.synthetic()
    short = example.estimate_s(cfg)
    cfg.train.num_iterations *= 10
    assert example.estimate_s(cfg) > 2 * short


def test_the_announcement_has_numbers_of_the_config():
    cfg = config.synthetic()
    text = example.announcement(cfg, Path("runs/x"), "unseen.webm")
    assert re.search(r"about \d+ minutes", text)
    assert "46 recordings of 6 s" in text
    assert "600 steps" in text
    assert "runs/x/unseen.webm" in text
