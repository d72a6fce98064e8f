"""Commands that are killed at random moments and run again write what an unbroken run writes.

`JAXDET_KILLS=30 pytest -n 0 -rP -m kill tests/multiprocess/test_kills.py` kills every command 30 times and
prints how many of the kills landed: the process had begun to write, had not ended, and died of the signal.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from jaxdet import config_files
from jaxdet.data.datasets import gen1, preparation
from jaxdet.data.events import recordings
from jaxdet.data.images import sets
from jaxdet.data.synthetic import event_layouts
from jaxdet.data.synthetic import gen1 as synthetic
from jaxdet.data.synthetic import ltd as synthetic_ltd
from jaxdet.detections import files
from jaxdet.evaluation import months
from jaxdet.files import finished
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.training import log_writers, setup
from jaxdet.weights import checkpoint
from jaxdet.weights.torch import file as torch_file

ROOT = Path(__file__).parent.parent.parent
CONFIG = f"--config={ROOT / 'tests' / 'integration' / 'tiny_hmnet.py'}"
RECIPE = ROOT / "tests" / "integration" / "tiny_recipe.py"
LIMIT_S = 300  # a command on a busy machine takes seconds


class Command(NamedTuple):
    """A command that writes into the folder `out`, what it leaves, and a check of what a kill leaves."""

    arguments: Callable[[Path, Path], list[str]]  # of the inputs and of `out`
    left: Callable[[Path], Any]
    whole: Callable[[Path], None] = lambda out: None


def _tree(out: Path) -> dict[str, bytes]:
    paths = finished((path for path in out.rglob("*") if path.is_file()), out)
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def _run(out: Path) -> Any:
    """Files by name, weights, and all logged numbers but those of the clock."""
    names = {path.name for path in out.iterdir()}
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    header, *lines = (line.split(",") for line in (out / "train.csv").read_text().splitlines())
    kept = [i for i, name in enumerate(header) if not name.endswith("Time")]
    table = [[line[i] for i in kept] for line in lines]
    return names, [row["loss"] for row in rows], table, checkpoint.load_run(out)[0]


def _soup(out: Path) -> Any:
    return (out / "soup.json").read_bytes(), checkpoint.load_weights(out / "soup")[0]


def _whole_recordings(out: Path) -> None:
    for split in preparation.SPLITS:
        for folder in (out / split).glob("[!.]*/info.json"):
            assert recordings.check(folder.parent, full=True) is None


def _whole_images(out: Path) -> None:
    for folder in out.glob("*/images"):
        assert all(".partial" not in str(item.source) for item in sets.open_input(folder))


def _whole_run(out: Path) -> None:
    if any(path.name.isdigit() for path in out.glob("checkpoints/*")):
        checkpoint.load_run(out)
    log_writers.read_log(out)


def _whole_soup(out: Path) -> None:
    if (out / "soup").exists():
        checkpoint.load_weights(out / "soup")


def _whole_detections(out: Path) -> None:
    for path in finished(out.rglob("*.h5"), out):
        assert files.read(path).frames


def _whole_torch_file(out: Path) -> None:
    if (out / "x.pth").exists():
        torch_file.load(out / "x.pth")


JOBS = {
    "prepare gen1": Command(
        lambda given, out: [
            "jaxdet.prepare",
            "gen1",
            f"--source={given / 'gen1'}",
            f"--out={out}",
            "--workers=2",
            "--duration_s=0",
        ],
        _tree,
        _whole_recordings,
    ),
    "prepare events": Command(
        lambda given, out: [
            "jaxdet.prepare",
            "events",
            f"--source={given / 'own' / 'recordings'}",
            f"--labels={given / 'own' / 'labels'}",
            f"--classes={','.join(event_layouts.OWN_CLASSES)}",
            f"--out={out}",
            "--workers=2",
        ],
        _tree,
        _whole_recordings,
    ),
    "prepare ltd": Command(
        lambda given, out: ["jaxdet.prepare", "ltd", f"--source={given / 'ltd'}", f"--out={out}"],
        _tree,
        _whole_images,
    ),
    "train": Command(
        lambda given, out: [
            "jaxdet.train",
            CONFIG,
            f"--workdir={out}",
            f"--config.data.root={given / 'prepared'}",
            "--config.train.num_iterations=2",
        ],
        _run,
        _whole_run,
    ),
    "soup": Command(
        lambda given, out: ["jaxdet.soup", f"--run={given / 'run'}", f"--out={out / 'soup'}"],
        _soup,
        _whole_soup,
    ),
    "predict": Command(
        lambda given, out: [
            "jaxdet.predict",
            CONFIG,
            f"--weights={given / 'run'}",
            f"--config.data.root={given / 'prepared'}",
            "--split=test",
            f"--out={out}",
        ],
        _tree,
        _whole_detections,
    ),
    "reproduce": Command(
        lambda given, out: [
            "jaxdet.reproduce",
            f"--recipe={RECIPE}:day",
            f"--data={given / 'ltd'}",
            f"--weights={given / 'weights'}",
            f"--workdir={out}",
            "--only=Jan,Sep",
            "--batch_size=2",
        ],
        _tree,
        _whole_detections,
    ),
    "convert": Command(
        lambda given, out: [
            "jaxdet.convert",
            CONFIG,
            f"--weights={given / 'run'}",
            f"--to_torch={out / 'x.pth'}",
        ],
        _tree,
        _whole_torch_file,
    ),
}


def _start(job: Command, given: Path, out: Path) -> subprocess.Popen:
    module, *flags = job.arguments(given, out)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    with open(f"{out}.log", "w") as log:
        # Its own group: the workers of a command die with it, as on a machine that loses power.
        return subprocess.Popen(
            [sys.executable, "-m", module, *flags],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _finish(job: Command, given: Path, out: Path) -> None:
    status = _start(job, given, out).wait(LIMIT_S)
    assert status == 0, Path(f"{out}.log").read_text()[-2000:]


def _begun(process: subprocess.Popen, out: Path) -> bool:
    """True once the process has written something, False if it ended before."""
    deadline = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        if out.is_dir() and any(out.iterdir()):
            return True
        time.sleep(0.005)
    return False


def _kill(job: Command, given: Path, out: Path, delay: float) -> bool:
    """Start the command and kill it `delay` seconds after its first write; True if it died of that."""
    process = _start(job, given, out)
    begun = _begun(process, out)
    if begun:
        time.sleep(delay)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait(LIMIT_S) == -signal.SIGKILL and begun


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Simulated recordings and frames as they are distributed."""
    given = tmp_path_factory.mktemp("given")
    simulation = synthetic.Simulation(seed=3, duration_s=2.0)
    synthetic.write(given / "gen1", {"train": 2, "val": 1, "test": 1}, simulation, workers=1)
    event_layouts.WRITERS["events"](given / "own", {"train": 2, "val": 1, "test": 1}, simulation)
    synthetic_ltd.write(given / "ltd", {"Day": 1, "Week": 0, "Month": 0}, 1, 0, 6, 1)
    return given


@pytest.fixture(scope="module")
def given(source):
    """The same with prepared recordings and a run of four steps."""
    report = gen1.make(source / "gen1", source / "prepared", gen1.Gen1Options(duration_ms=None))
    preparation.finish(source / "prepared", report)
    _finish(JOBS["train"], source, source / "run")
    cfg = config_files.load(f"{RECIPE.with_name('tiny_images.py')}:yolov4")
    cfg.model.num_classes, cfg.data.classes = len(months.CLASSES), tuple(months.CLASSES)
    variables = functional.split(from_config.build(cfg, 0))[1]
    checkpoint.save_weights(source / "weights" / "tiny", variables, setup.as_json(cfg))
    return source


def _kill_and_compare(name: str, given: Path, place: Path, kills: int) -> tuple[int, int]:
    """Kill a command until `kills` landed, each in a tree that is then finished; (landed, tried)."""
    job, rng = JOBS[name], random.Random(name)
    reference = place / "reference"
    reference.mkdir()
    process = _start(job, given, reference)
    _begun(process, reference)
    begin = time.monotonic()
    assert process.wait(LIMIT_S) == 0, (place / "reference.log").read_text()[-2000:]
    length, expected = time.monotonic() - begin, job.left(reference)
    landed = tried = 0
    while landed < kills and tried < 5 * kills + 5:
        out = place / str(tried)
        out.mkdir()
        tried += 1
        if not _kill(job, given, out, rng.uniform(0, length)):
            shutil.rmtree(out)
            continue
        landed += 1
        job.whole(out)
        _finish(job, given, out)
        jax.tree.map(np.testing.assert_array_equal, job.left(out), expected)
        shutil.rmtree(out)
    return landed, tried


def test_prepared_frames_of_a_killed_command_are_those_of_an_unbroken_one(source, tmp_path):
    landed, tried = _kill_and_compare("prepare ltd", source, tmp_path, 1)
    assert landed == 1, f"none of {tried} kills landed"


@pytest.mark.kill
@pytest.mark.parametrize("name", JOBS)
def test_every_command_recovers_from_kills(name, given, tmp_path):
    kills = int(os.environ.get("JAXDET_KILLS", "3"))
    landed, tried = _kill_and_compare(name, given, tmp_path, kills)
    print(f"| {name} | {landed} landed of {tried} |")
    assert landed == kills
