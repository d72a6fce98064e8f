"""The training command on simulated recordings: what it writes, and that stopping changes nothing.

Windows have two segments, so every odd step ends with a state that the next one goes on from.
"""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_detectors

from jaxdet import convert, sharding, train
from jaxdet.benchmarks import example
from jaxdet.data.datasets import gen1, preparation
from jaxdet.data.events import recordings
from jaxdet.data.synthetic import gen1 as synthetic
from jaxdet.training import setup
from jaxdet.weights import checkpoint, families, optimizer
from jaxdet.weights.torch import file

ROOT = Path(__file__).parent.parent.parent
CONFIG = f"--config={ROOT / 'tests' / 'integration' / 'tiny_hmnet.py'}"


# The command as a program of its own, with the model of the other runs.
PROGRAM = """
import sys, tiny_detectors
from jaxdet import train
with tiny_detectors.finest_level_only():
    sys.exit(train.main())
"""


@pytest.fixture(scope="module", autouse=True)
def _one_level():
    with tiny_detectors.finest_level_only():
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four prepared recordings of one second."""
    folder = tmp_path_factory.mktemp("recordings")
    simulation = synthetic.Simulation(seed=3, duration_s=1.0)
    synthetic.write(folder / "source", {"train": 2, "val": 1, "test": 1}, simulation, workers=1)
    report = gen1.make(folder / "source", folder / "prepared", gen1.Gen1Options(duration_ms=None))
    preparation.finish(folder / "prepared", report)
    return folder / "prepared"


def _arguments(root, workdir, *more):
    """Two windows, four steps."""
    flags = [CONFIG, f"--workdir={workdir}", f"--config.data.root={root}"]
    return [*flags, "--config.train.num_iterations=2", *more]


def _result(workdir):
    lines = [json.loads(line) for line in (workdir / "train.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines], checkpoint.load_run(workdir)[0]


def _column(workdir, name):
    header, *rows = (line.split(",") for line in (workdir / "train.csv").read_text().splitlines())
    return [row[header.index(name)] for row in rows]


@pytest.fixture(scope="module")
def unbroken(root, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken")
    assert train.main(_arguments(root, workdir)) == 0
    return workdir


def _left_at(step, unbroken, workdir):
    """`workdir` as a kill leaves it that comes after step 4 was logged, where `step` is the last one
    saved."""
    shutil.copytree(unbroken, workdir, dirs_exist_ok=True)
    for later in range(step + 1, 5):
        shutil.rmtree(workdir / "checkpoints" / str(later))


def _assert_equal(workdir, unbroken):
    losses, weights = _result(workdir)
    expected_losses, expected = _result(unbroken)
    assert losses == expected_losses
    # Also the running mean of the released log, but not the times.
    assert _column(workdir, "Loss") == _column(unbroken, "Loss")
    jax.tree.map(np.testing.assert_array_equal, weights, expected)


def test_a_run_writes_released_columns_config_and_curves(unbroken):
    rows = (unbroken / "train.csv").read_text().splitlines()
    columns = "Epoch,Iter,Loss,DataTime,BatchTime,loss_cls,loss_bbox,loss_obj,loss_iou,loss,LR0,LR1"
    assert rows[0] == columns
    assert [row.split(",")[1] for row in rows[1:]] == ["0", "1"]
    assert np.isfinite(_result(unbroken)[0]).all()
    assert json.loads((unbroken / "config.json").read_text())["optim"]["schedule"] == "constant"
    assert (unbroken / "loss.png").stat().st_size > 0


# After step 3 the second window is half done. Batches come from threads and from two processes.
@pytest.mark.parametrize(("step", "workers"), [(2, 0), (3, 2)])
def test_a_killed_and_resumed_run_equals_the_unbroken_one_bit_for_bit(
    root, tmp_path, unbroken, step, workers
):
    _left_at(step, unbroken, tmp_path)
    assert train.main(_arguments(root, tmp_path, f"--config.data.workers={workers}")) == 0
    _assert_equal(tmp_path, unbroken)


def _signalled(monkeypatch, step, sign):
    """From now on, runs get the signal `sign` once `step` is logged."""

    class Told(train.Log):
        def __call__(self, moment):
            super().__call__(moment)
            if moment.step == step:
                signal.raise_signal(sign)

    monkeypatch.setattr(train, "Log", Told)


def test_signals_save_and_exit_0_and_sigkill_loses_only_what_was_not_saved(
    root, tmp_path, unbroken, monkeypatch
):
    with monkeypatch.context() as patch:
        _signalled(patch, 1, signal.SIGINT)
        assert train.main(_arguments(root, tmp_path, "--config.data.workers=1")) == 0
    log = tmp_path / "train.csv"
    before = log.read_text().count("\n")
    command = [sys.executable, "-c", PROGRAM, *_arguments(root, tmp_path)]
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path})
    while process.poll() is None and log.read_text().count("\n") <= before:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() in (-signal.SIGKILL, 0)  # 0: it was done before the signal came
    assert train.main(_arguments(root, tmp_path)) == 0
    _assert_equal(tmp_path, unbroken)


@pytest.mark.parametrize("signalled", [2, 3, 4])
def test_a_run_that_is_told_to_stop_is_not_evaluated(root, tmp_path, monkeypatch, caplog, signalled):
    config = tmp_path / "simulated.py"
    lines = Path(CONFIG.partition("=")[2]).read_text()
    config.write_text(
        lines.replace(
            "return cfg", "cfg.data.simulate = c.block(train=1, val=1, test=1, duration_s=1)\n    return cfg"
        )
    )
    monkeypatch.setattr(example, "simulate", lambda block: None)
    monkeypatch.setattr(example, "announcement", lambda *_: "")  # it measures the machine
    monkeypatch.setattr(example, "show", lambda *_: pytest.fail("evaluated"))
    before = signal.getsignal(signal.SIGTERM)
    _signalled(monkeypatch, signalled, signal.SIGTERM)
    arguments = _arguments(root, tmp_path / "run", "--config.train.checkpoint_every=9")[1:]
    assert train.main([f"--config={config}", *arguments]) == 0
    # The step after may be on the device already; of four, it is the last one.
    stopped = min(signalled + sharding.can_run_ahead(), 4)
    assert max(int(folder.name) for folder in (tmp_path / "run" / "checkpoints").glob("[!.]*")) == stopped
    assert "told to stop, so not evaluated" in caplog.text
    assert signal.getsignal(signal.SIGTERM) is before


def test_validation_keeps_the_best_weights(root, tmp_path, unbroken):
    _left_at(2, unbroken, tmp_path)
    assert train.main(_arguments(root, tmp_path, "--config.train.evaluate_every=1")) == 0
    lines = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 4]
    assert (tmp_path / "ap.png").stat().st_size > 0
    checkpoint.load_weights(tmp_path / "best")


def test_a_run_becomes_a_checkpoint_of_the_released_layout(tmp_path, unbroken):
    path = tmp_path / "run.pth"
    assert convert.main([CONFIG, f"--weights={unbroken}", f"--to_torch={path}"]) == 0
    contents = file.load(path)
    assert list(contents) == ["state_dict", "epoch", "optimizer", "scaler"]
    assert (contents["epoch"], contents["scaler"]) == (2, {})
    plain, decayed = contents["optimizer"]["param_groups"]
    assert (plain["weight_decay"], decayed["weight_decay"]) == (0, 0.01)
    assert plain["lr"] == decayed["lr"] == pytest.approx(2e-4)
    weights, moments = _result(unbroken)[1], checkpoint.load_moments(unbroken)
    assert moments.count == 4
    back = optimizer.from_torch(contents["optimizer"], families.HMNET, weights.params)
    jax.tree.map(np.testing.assert_array_equal, back, moments)


@pytest.mark.slow
def test_a_dry_run_prints_size_memory_and_time_and_writes_nothing(root, tmp_path, capsys):
    assert train.main(_arguments(root, tmp_path, "--dry_run")) == 0
    printed = capsys.readouterr().out
    for word in ("parameters", "memory a device", "4 in all", "s per step"):
        assert word in printed
    assert not list(tmp_path.iterdir())


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
    assert train.main(_arguments(root, tmp_path, change)) == 1
    assert message in _error(capsys)


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--init=nowhere.pth", "nowhere.pth does not exist"),
        ("--config.optim.b2=1.5", "optim.b2 is 1.5"),
        ("--config.optim.ema_decay=2.0", "ema_decay is 2.0"),
        ("--config.optim.schedule=linear", "optim.schedule='linear'"),
    ],
)
def test_what_is_refused_is_said_before_the_example_is_simulated(tmp_path, capsys, monkeypatch, flag, told):
    monkeypatch.chdir(tmp_path)
    assert train.main([flag]) == 1
    assert told in _error(capsys)
    assert not list(tmp_path.iterdir())


def _error(capsys):
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    return line


# Where orbax refuses an array it leaves coroutines behind, which complain once they are collected: here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_checkpoints_of_another_model_are_one_line(root, tmp_path, capsys, unbroken):
    _left_at(1, unbroken, tmp_path)
    assert train.main(_arguments(root, tmp_path, "--config.model.out_features=8")) == 1
    assert "another model" in _error(capsys)
    gc.collect()


def test_a_recording_that_breaks_is_named_or_passed_over_and_counted(
    root, tmp_path, capsys, caplog, unbroken
):
    shutil.copytree(root, tmp_path / "data")
    broken = recordings.find(tmp_path / "data", "train")[1]
    (broken / "events.npy").write_bytes(b"damaged")
    _left_at(1, unbroken, tmp_path / "run")
    arguments = _arguments(tmp_path / "data", tmp_path / "run")
    assert train.main(arguments) == 1
    assert broken.name in _error(capsys)
    assert checkpoint.load_run(tmp_path / "run", 1)[0].params
    assert train.main([*arguments, "--config.data.skip_corrupt=true"]) == 0
    assert any("left out while reading" in line and "lanes" in line for line in caplog.messages)
    stored = json.loads((tmp_path / "run" / "left_out.json").read_text())
    assert any("lanes" in reason for reason in stored["left_out"])


def test_nan_loss_stops_with_its_batch_and_leaves_the_checkpoint(
    root, tmp_path, capsys, unbroken, monkeypatch
):
    _left_at(2, unbroken, tmp_path)
    batches = setup.device_batches

    def spoilt(*arguments):
        for batch in batches(*arguments):
            yield batch._replace(inputs=batch.inputs._replace(xy=batch.inputs.xy * np.nan))

    monkeypatch.setattr(setup, "device_batches", spoilt)
    assert train.main(_arguments(root, tmp_path, "--config.train.checkpoint_every=2")) == 1
    assert "nonfinite_step_2.npz" in _error(capsys)
    with np.load(tmp_path / "nonfinite_step_2.npz") as batch:
        assert "inputs.xy" in batch.files
    assert checkpoint.load_run(tmp_path)[0].params
