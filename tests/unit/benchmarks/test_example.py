"""The example says beforehand what it will do and how long it takes."""

import re
from pathlib import Path

import pytest

from jaxdet import config
from jaxdet.benchmarks import example, timing


def test_more_steps_and_a_slower_machine_take_longer(monkeypatch):
    cfg = config.synthetic()
    monkeypatch.setattr(timing, "unit_seconds", lambda: 0.02)
    short = example.estimate_s(cfg)
    monkeypatch.setattr(timing, "unit_seconds", lambda: 0.06)
    assert example.estimate_s(cfg) == pytest.approx(3 * short)
    cfg.train.num_iterations *= 10
    assert example.estimate_s(cfg) > 2 * 3 * short


def test_the_announcement_has_numbers_of_the_config():
    cfg = config.synthetic()
    text = example.announcement(cfg, Path("runs/x"), "unseen.webm")
    assert re.search(r"about \d+ minutes", text)
    assert "46 recordings of 6 s" in text
    assert "480 steps" in text
    assert "runs/x/unseen.webm" in text
