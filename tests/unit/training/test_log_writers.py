"""Logs of a run: means, the released table, JSON lines."""

import json
import logging

import pytest

from jaxdet.errors import InputError
from jaxdet.training import log_writers
from jaxdet.training.hooks import Log
from jaxdet.training.loop import StepInfo

COLUMNS = ["loss_cls", "loss", "LR0", "LR1"]


def values(loss):
    parts = {"Epoch": 1, "Iter": 0, "Loss": loss, "DataTime": 0.25, "BatchTime": 0.5}
    return {**parts, "loss_cls": loss / 4, "loss": loss, "LR0": 2e-4, "LR1": 2e-4}


def written(workdir, steps, start=0):
    writers = log_writers.open_all(workdir, COLUMNS[:2], 10, 3, start, {"train": {}})
    for step in steps:
        for writer in writers:
            writer.write(step, values(float(step)))
    for writer in writers:
        writer.close()


def test_a_running_mean_weights_the_newest_value_most():
    mean = log_writers.RunningMean(0.5)
    # (2), (4 + 2 / 2) / (1 + 1 / 2), (1 + 4 / 2 + 2 / 4) / (1 + 1 / 2 + 1 / 4)
    assert [mean.add(v) for v in (2.0, 4.0, 1.0)] == pytest.approx([2, 10 / 3, 2])


def test_rows_have_the_released_columns_and_format(tmp_path):
    written(tmp_path, [1])
    assert (tmp_path / "train.csv").read_text().splitlines() == [
        "Epoch,Iter,Loss,DataTime,BatchTime,loss_cls,loss,LR0,LR1",
        "1,0,1.000000,0.250000,0.500000,0.250000,1.000000,0.000200,0.000200",
    ]


def test_lines_after_the_checkpoint_that_a_run_goes_on_from_are_forgotten(tmp_path):
    written(tmp_path, [1, 2, 3, 4])
    with open(tmp_path / "train.jsonl", "a") as file:
        file.write('{"step": 5, "Lo')  # the kill came here
    written(tmp_path, [3], start=2)
    assert [line["step"] for line in log_writers.read_log(tmp_path)] == [1, 2, 3]
    assert len((tmp_path / "train.csv").read_text().splitlines()) == 1 + 3


@pytest.mark.parametrize("line", ["{", "3", "[1]", '{"step": 1} x'])
def test_a_damaged_line_of_a_log_is_named(tmp_path, line):
    (tmp_path / "train.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(InputError, match=r"train.jsonl, line 2: "):
        log_writers.read_log(tmp_path)


def test_a_line_tells_rate_waiting_and_time_left(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    written(tmp_path, [4])
    (line,) = caplog.messages
    assert line.startswith("epoch 1/3  step 4/10")
    assert "2.00 steps/s" in line
    assert "waiting for data 50%" in line
    assert line.endswith("left 0:00:03")


class Kept:
    def __init__(self):
        self.lines = []

    def write(self, step, values):
        self.lines.append(json.loads(json.dumps({"step": step, **values})))


def test_an_iteration_of_several_segments_is_one_line_and_epochs_start_their_means_anew():
    kept = Kept()
    log = Log([kept], rate=float, every=1, segments=2, iterations_per_epoch=2)
    for step in range(1, 9):
        log(StepInfo(step, None, None, {"loss": float(step)}, 0.0, 1.0))
    assert [(line["step"], line["Epoch"], line["Iter"]) for line in kept.lines] == [
        (2, 1, 0),
        (4, 1, 1),
        (6, 2, 2),
        (8, 2, 3),
    ]
    assert kept.lines[2]["Loss"] == pytest.approx((6 + 0.999 * 5) / 1.999)
    assert [line["loss"] for line in kept.lines] == [2, 4, 6, 8]  # the last segment's
