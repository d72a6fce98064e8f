"""Experiment trackers: what each keeps of a run, read back with its own package."""

import cv2
import numpy as np
import pytest

from jaxdet import reports
from jaxdet.errors import InputError
from jaxdet.evaluation import coco
from jaxdet.training import trackers

KEYS = {"tensorboard": True, "wandb": "jaxdet", "mlflow": "jaxdet"}


def _run(key, folder):
    """A run that logs two steps and is resumed for two more; each part ends with an evaluation."""
    pytest.importorskip({"tensorboard": "tensorboardX"}.get(key, key))
    cv2.imwrite(str(folder / "batch_0.jpg"), np.full((8, 8, 3), 90, np.uint8))
    boxes = coco.table([0], [[0.0, 0, 20, 20]], [0])
    metrics = coco.average_precision(boxes, boxes, 1, ("car",))
    for start in (0, 2):
        (tracker,) = trackers.open_chosen(folder, {"train": {key: KEYS[key]}})
        show = reports.on_trackers([object(), tracker], folder, start)
        tracker.write(start + 1, {"Loss": 0.5, "LR0": 1e-3})
        show(start + 2, metrics)
        tracker.close()


def test_tensorboard_gets_values_curves_and_the_first_batches(tmp_path):
    _run("tensorboard", tmp_path)
    content = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    for name in ("Loss", "LR0", "validation/AP50", "validation/precision_recall", "batches/batch_0"):
        assert name.encode() in content, name
    assert content.count(b"batches/batch_0") == 1
    assert content.count(b"\x89PNG") == 3


@pytest.mark.filterwarnings("ignore::FutureWarning")  # it wants a database, which a test does not
def test_mlflow_goes_on_with_the_run_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    _run("mlflow", tmp_path)
    client = pytest.importorskip("mlflow").MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("jaxdet").experiment_id])
    history = client.get_metric_history(run.info.run_id, "Loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (3, 0.5)]
    assert run.data.metrics["validation/AP50"] == pytest.approx(1)
    names = [file.path for file in client.list_artifacts(run.info.run_id, "validation/precision_recall")]
    assert [name.rpartition("/")[2] for name in names] == ["2.png", "4.png"]


def test_wandb_keeps_an_offline_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    _run("wandb", tmp_path)
    kept = [*(tmp_path / "wandb").glob("offline-run-*")]
    assert len(kept) == 2  # joined by their id when they are sent
    assert all((tmp_path / "wandb_run").read_text().strip() in path.name for path in kept)
    assert [*(tmp_path / "wandb").rglob("*.png")]


@pytest.mark.parametrize("key", ["wandb", "mlflow"])
def test_a_missing_package_is_one_line_with_the_command(tmp_path, monkeypatch, key):
    monkeypatch.setitem(__import__("sys").modules, key, None)
    with pytest.raises(InputError, match=rf"train.{key} needs {key}; pip install 'jaxdet\[{key}\]'"):
        trackers.open_chosen(tmp_path, {"train": {key: "x"}})
    assert trackers.open_chosen(tmp_path, {"train": {"tensorboard": False, "wandb": "", "mlflow": ""}}) == []


class Broken:
    def __init__(self, workdir, config):
        if config["train"]["wandb"] == "refused":
            raise RuntimeError("no key\nfor it")
        self.calls = 0

    def write(self, step, values):
        self.calls += 1
        raise ConnectionError("the server is gone")

    picture = close = None


def test_a_tracker_that_fails_ends_itself_and_not_the_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(trackers._KINDS, "wandb", Broken)
    (tracker,) = trackers.open_chosen(tmp_path, {"train": {"wandb": "x"}})
    for step in range(3):
        tracker.write(step, {"Loss": 1.0})
    tracker.close()
    assert caplog.messages == ["train.wandb: the server is gone; the run goes on without it"]
    with pytest.raises(InputError, match=r"train\.wandb=refused: no key"):
        trackers.open_chosen(tmp_path, {"train": {"wandb": "refused"}})
