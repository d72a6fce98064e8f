"""The training command on simulated recordings: what it writes, and that stopping changes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdet import train
from jaxdet.data import preparation, synthetic
from jaxdet.weights import checkpoint

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four prepared recordings of two seconds."""
    folder = tmp_path_factory.mktemp("recordings")
    simulation = synthetic.Simulation(seed=3, duration_s=2.0)
    synthetic.write(folder / "source", {"train": 2, "val": 1, "test": 1}, simulation, workers=1)
    preparation.prepare(folder / "source", folder / "prepared", preparation.Options(duration_ms=None))
    return folder / "prepared"


def _arguments(root, workdir, steps, *more):
    config = [f"--config={ROOT / 'tests' / 'integration' / 'tiny_hmnet.py'}", f"--workdir={workdir}"]
    return [*config, f"--config.data.root={root}", f"--config.train.num_iterations={steps}", *more]


def _train(root, workdir, steps, *more):
    assert train.main(_arguments(root, workdir, steps, *more)) == 0
    lines = [json.loads(line) for line in (workdir / "train.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines], checkpoint.load_run(workdir)[0]


@pytest.fixture(scope="module")
def unbroken(root, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken")
    return workdir, *_train(root, workdir, 4)


def test_a_run_writes_released_columns_config_and_curves(unbroken):
    workdir, losses, _ = unbroken
    rows = (workdir / "train.csv").read_text().splitlines()
    columns = "Epoch,Iter,Loss,DataTime,BatchTime,loss_cls,loss_bbox,loss_obj,loss_iou,loss,LR0,LR1"
    assert rows[0] == columns
    assert len(rows) == 5
    assert np.isfinite(losses).all()
    assert json.loads((workdir / "config.json").read_text())["optim"]["schedule"] == "constant"
    assert (workdir / "loss.png").stat().st_size > 0


def test_a_stopped_and_resumed_run_equals_the_unbroken_one_bit_for_bit(root, tmp_path, unbroken):
    _, losses, weights = unbroken
    _train(root, tmp_path, 2)
    resumed_losses, resumed = _train(root, tmp_path, 4)
    assert resumed_losses == losses
    jax.tree.map(np.testing.assert_array_equal, resumed, weights)


def test_sigterm_saves_and_exits_0_and_sigkill_loses_only_what_was_not_saved(root, tmp_path, unbroken):
    _, losses, weights = unbroken
    command = [sys.executable, "-m", "jaxdet.train", *_arguments(root, tmp_path, 4)]
    for sign, status in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        log = tmp_path / "train.csv"
        before = log.read_text().count("\n") if log.exists() else 1
        while process.poll() is None and (not log.exists() or log.read_text().count("\n") <= before):
            time.sleep(0.05)
        process.send_signal(sign)
        assert process.wait() in (status, 0)  # 0: it was done before the signal came
    resumed_losses, resumed = _train(root, tmp_path, 4)
    assert resumed_losses == losses
    jax.tree.map(np.testing.assert_array_equal, resumed, weights)


def test_validation_keeps_the_best_weights(root, tmp_path, unbroken):
    _train(root, tmp_path, 2, "--config.train.evaluate_every=1", f"--init={unbroken[0]}")
    lines = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    checkpoint.load_weights(tmp_path / "best")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--config.optim.rate=1", "rate"),
        ("--config.data.root=nowhere", "nowhere"),
        ("--init=nowhere.pth", "nowhere.pth"),
        ("--wrokdir=x", "wrokdir"),
    ],
)
def test_bad_input_is_one_line_and_status_1(root, tmp_path, capsys, change, message):
    assert train.main(_arguments(root, tmp_path, 1, change)) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert message in line


def test_nan_loss_stops_with_its_batch_and_leaves_the_checkpoint(root, tmp_path, capsys):
    _train(root, tmp_path, 2)
    assert train.main(_arguments(root, tmp_path, 4, "--config.optim.lr=nan")) == 1
    assert "nonfinite_step_3.npz" in capsys.readouterr().err
    with np.load(tmp_path / "nonfinite_step_3.npz") as batch:
        assert "inputs.xy" in batch.files
    assert checkpoint.load_run(tmp_path)[0].params
