"""Class-balanced windows: every class has as many turns, and its windows come equally often."""

from collections import Counter

import numpy as np
import recordings_data as rd

from jaxdet.data.events import recordings
from jaxdet.data.events.windows import Windows

RARE_EVERY = 10  # labelled times


def make_set(root):
    """Forty times with a scored box of class 0, four of which hold one of class 1 too; two are small."""
    for number in range(2):
        times = np.arange(100_000, 100_000 + 21 * 20_000, 20_000)
        rows = rd.labels(times)
        rows["class_id"] = 0
        rows["h"][-2:] = 5  # the last time: both are too small to be scored
        rare = rows[:-2:2][::RARE_EVERY].copy()
        rare["class_id"] = 1
        rows = np.sort(np.concatenate([rows, rare]), order="t", kind="stable")
        chunk = rd.chunk(np.random.default_rng(number), 500, 600)
        rd.write(root, "train", f"r{number}", chunk, rows.astype(recordings.LABEL_DTYPE), 600, 20_000)


def config(root, **changes):
    return rd.config(root, max_slots=16, batch_size=4, **changes)


def drawn(source, num):
    return Counter(source._window(position)[0] for position in range(num))


def test_classes_are_drawn_equally_often_however_rare(tmp_path, caplog):
    caplog.set_level("INFO")
    make_set(tmp_path)
    source = Windows(config(tmp_path, balance=True), "train")
    assert "2 of 42 labelled times hold no scored box" in caplog.text
    counts = drawn(source, 160)  # 80 turns of each class
    rare = [number for number in range(42) if number % 21 in (0, RARE_EVERY)]
    # Class 1: 80 turns on four samples. Class 0: 80 turns on forty samples, these four among them.
    assert {counts[number] for number in rare} == {80 // 4 + 80 // 40}
    common = [number for number in range(42) if number not in rare and number % 21 != 20]
    assert {counts[number] for number in common} == {80 // 40}
    assert counts[20] == counts[41] == 0


def test_without_the_switch_every_time_is_drawn_once_an_epoch(tmp_path):
    make_set(tmp_path)
    counts = drawn(Windows(config(tmp_path), "train"), 40)
    assert len(counts) == 40
    assert set(counts.values()) == {1}
