"""Experiment trackers of others: TensorBoard, Weights & Biases, MLflow.

Each takes what the log of a run takes, and pictures. Its package comes with the extra of its name.
"""

import importlib
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxdet.errors import InputError, one_line
from jaxdet.files import atomic

logger = logging.getLogger(__name__)

Values = Mapping[str, float]


class RunTracker(Protocol):
    """Takes the values of a step and pictures, uint8 [H, W, 3], RGB; `close` flushes."""

    def write(self, step: int, values: Values) -> None: ...

    def picture(self, step: int, name: str, picture: np.ndarray) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Events for TensorBoard in `<workdir>/tensorboard`."""

    def __init__(self, workdir: Path, config: Mapping[str, Any]):
        package = _package("tensorboardX", "tensorboard")
        # Its own names of files have whole seconds: a run that is resumed at once would overwrite its first.
        suffix = f".{time.time_ns()}"
        self._writer = package.SummaryWriter(str(workdir / "tensorboard"), filename_suffix=suffix)

    def write(self, step: int, values: Values) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        self._writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """A run of Weights & Biases in the project `train.wandb`; `WANDB_MODE=offline` keeps it here.

    A run that is resumed goes on as the same run, whose id lies in `<workdir>/wandb_run`.
    """

    def __init__(self, workdir: Path, config: Mapping[str, Any]):
        self._wandb = _package("wandb", "wandb")
        name, project = workdir.resolve().name, config["train"]["wandb"]
        run_id = _kept_id(workdir / "wandb_run", lambda: uuid.uuid4().hex)
        self._run = self._wandb.init(
            project=project, name=name, id=run_id, dir=str(workdir), config=dict(config), resume="allow"
        )

    def write(self, step: int, values: Values) -> None:
        self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        self._run.log({name: self._wandb.Image(picture)}, step=step)

    def close(self) -> None:
        self._run.finish()


class Mlflow:
    """A run of MLflow in the experiment `train.mlflow`, where `MLFLOW_TRACKING_URI` says.

    A run that is resumed goes on as the same run, whose id lies in `<workdir>/mlflow_run`.
    """

    def __init__(self, workdir: Path, config: Mapping[str, Any]):
        package = _package("mlflow", "mlflow")
        self._client = package.MlflowClient()
        self._id = _kept_id(workdir / "mlflow_run", lambda: self._begin(workdir.resolve().name, config))

    def _begin(self, name: str, config: Mapping[str, Any]) -> str:
        experiment = config["train"]["mlflow"]
        known = self._client.get_experiment_by_name(experiment)
        place = known.experiment_id if known else self._client.create_experiment(experiment)
        run = self._client.create_run(place, run_name=name)
        self._client.log_dict(run.info.run_id, dict(config), "config.json")
        return run.info.run_id

    def write(self, step: int, values: Values) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name, float(value), step=step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        self._client.log_image(self._id, picture, f"{name}/{step}.png")

    def close(self) -> None:
        self._client.set_terminated(self._id)


class Guarded:
    """A tracker whose failure, of a network for example, ends the tracking and not the run, with one line."""

    def __init__(self, name: str, tracker: RunTracker):
        self._name, self._tracker = name, tracker
        self._works = True

    def write(self, step: int, values: Values) -> None:
        self._try(lambda: self._tracker.write(step, values))

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        self._try(lambda: self._tracker.picture(step, name, picture))

    def close(self) -> None:
        self._try(self._tracker.close)

    def _try(self, call: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            call()
        except Exception as error:  # of whatever a package and its server raise
            self._works = False
            logger.warning("train.%s: %s; the run goes on without it", self._name, one_line(str(error)))


_KINDS: dict[str, Callable[[Path, Mapping[str, Any]], RunTracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": Mlflow,
}


def open_chosen(workdir: Path, config: Mapping[str, Any]) -> list[RunTracker]:
    """The trackers that the block `train` of the config names.

    Raises InputError where a package is missing or a tracker refuses the run.
    """
    return [_opened(key, workdir, config) for key in _KINDS if config["train"].get(key)]


def _opened(key: str, workdir: Path, config: Mapping[str, Any]) -> RunTracker:
    try:
        return Guarded(key, _KINDS[key](workdir, config))
    except InputError:
        raise
    except Exception as error:  # of whatever a package and its server raise
        raise InputError(f"train.{key}={config['train'][key]}: {one_line(str(error))}") from error


def _kept_id(path: Path, make: Callable[[], str]) -> str:
    """The id in a file, which is made with the first run."""
    if path.is_file():
        return path.read_text(encoding="utf-8").strip()
    made = make()
    with atomic(path) as temporary:
        temporary.write_text(f"{made}\n", encoding="utf-8")
    return made


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"train.{extra} needs {name}; pip install 'jaxdet[{extra}]'") from error
