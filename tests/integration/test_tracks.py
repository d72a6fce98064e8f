"""The three tracks end to end on simulated thermal clips, with two small models, through the command."""

import shutil

import numpy as np
import pytest
import yolo_models
from flax import traverse_util

from jaxdet import config, reproduce
from jaxdet.data.datasets import ltd
from jaxdet.data.synthetic import ltd as synthetic_ltd
from jaxdet.evaluation import months
from jaxdet.formats import pickle, plain_pickle
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.postprocess import overlaps
from jaxdet.training import setup as runs
from jaxdet.weights import checkpoint

RECIPE = """
from jaxdet import config as c
from jaxdet.evaluation import months
from jaxdet.challenges.recipes import Row
TRACKS = {
    "day": (
        Row("Sep", "a", "tiny", 96, None, 0.1, "score", 0.1),
        Row("Jan Mar Apr May Jun Jul Aug", "b", "tiny", 128, "flip", 0.1, "seqnms", 0.2),
    ),
    "week": (
        Row("Apr Aug Jan Jul Jun", "b", "tiny", 128, "flip", 0.1, "seqnms", 0.2),
        Row("Sep", "b", "tiny", 128, None, 0.1, "seqnms", 0.2),
        Row("Mar May", "a", "tiny", 128, None, 0.3, "score", 0.3),
    ),
    "month": (
        Row("Jan", "a", "tiny", 96, None, 0.1, "seqnms", 0.2),
        Row("Mar Apr Jun May Jul", "b", "tiny", 128, "flip", 0.1, "seqnms", 0.2),
        Row("Aug", "b", "tiny", 128, None, 0.1, "seqnms", 0.2),
        Row("Sep", "a", "tiny", 96, None, 0.1, "seqnms", 0.3),
    ),
}
def get_config(arg):
    (track,) = c.parse(arg, TRACKS)
    counts = dict.fromkeys(months.MONTHS, 6)
    return c.block(rows=TRACKS[track], num_frames=counts, month_weights=months.ESTIMATED_WEIGHTS)
"""


@pytest.fixture(autouse=True)
def few_shapes(monkeypatch):
    monkeypatch.setattr(overlaps, "_FRAME_SIZES", (16,))
    monkeypatch.setattr(overlaps, "_BOX_SIZES", (304,))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("tracks")
    synthetic_ltd.write(root / "data", {}, test_clips=2, num_frames=3, workers=1)
    (root / "recipe.py").write_text(RECIPE)
    cfg = config.base()
    cfg.model = yolo_models.yolov4_block("tiny")
    cfg.data = config.yolov4_images(128, 16, ltd.CLASSES, batch_size=2)
    for seed, name in enumerate("ab"):
        _, variables = functional.split(from_config.build(cfg, seed))
        flat = traverse_util.flatten_dict(variables.params)
        for path, value in flat.items():
            if "preds" in path and path[-1] == "bias":  # fresh heads report nothing: make them sure
                flat[path] = np.where(np.arange(len(value)) % 9 < 4, value, value + 5)
        sure = variables._replace(params=traverse_util.unflatten_dict(flat))
        checkpoint.save_weights(root / "weights" / name, sure, runs.as_json(cfg))
    return root


def _arguments(place, track, workdir, *more):
    return [
        f"--recipe={place / 'recipe.py'}:{track}",
        f"--data={place / 'data'}",
        f"--weights={place / 'weights'}",
        f"--workdir={workdir}",
        "--batch_size=3",
        *more,
    ]


# Two models at three sizes take over a minute to compile; test_reproduce runs tracks without detectors.
@pytest.mark.slow
@pytest.mark.parametrize("track", ["day", "week", "month"])
def test_a_track_from_frames_to_submission(place, tmp_path, track, monkeypatch, capsys):
    assert reproduce.main(_arguments(place, track, tmp_path / "whole")) == 0
    content = plain_pickle.load(tmp_path / "whole" / "predictions.pkl")
    assert {month: len(entries) for month, entries in content.items()} == dict.fromkeys(months.MONTHS, 6)
    num_boxes = sum(e["boxes"] != pickle.PLACEHOLDER["boxes"] for m in content.values() for e in m.values())
    assert num_boxes > 6
    assert (tmp_path / "whole" / "drift.png").exists()  # simulated months have annotations

    # The workdir of a run that was killed after its first parts: the rest is done, the bytes are the same.
    for folder in ("predictions", "results"):
        kept = sorted((tmp_path / "whole" / folder).iterdir())[::2]
        (tmp_path / "killed" / folder).mkdir(parents=True)
        for path in kept:
            shutil.copy(path, tmp_path / "killed" / folder)
    assert reproduce.main(_arguments(place, track, tmp_path / "killed")) == 0
    whole, again = ((tmp_path / name / "predictions.pkl").read_bytes() for name in ("whole", "killed"))
    assert whole == again


def test_a_dry_run_prints_the_plan_and_what_is_missing(place, tmp_path, capsys):
    assert reproduce.main(_arguments(place, "day", tmp_path, "--dry_run")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Jan: 6 frames, b, tiny at 128, flip, conf 0.1, seqnms 0.2; 0 of 2 days predicted"
    assert [line[:3] for line in lines] == list(months.MONTHS)
    arguments = [a for a in _arguments(place, "day", tmp_path, "--dry_run") if "--weights" not in a]
    assert reproduce.main([*arguments, f"--weights={tmp_path}"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == f"Jan: no weights {tmp_path / 'b'}; expected a folder, or a .pt or .pth file"
    assert errors[-1].startswith("error: 8 things are missing or wrong")
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_are_one_clear_line(place, tmp_path, capsys):
    for arguments, message in (
        (_arguments(place, "year", tmp_path), "'year' is not one of day, week, month"),
        (_arguments(place, "day", tmp_path, "--only=Feb"), "month 'Feb'"),
        (["--recipe=none.py:day", "--data=x", "--weights=x", "--workdir=x"], "none.py: no such file"),
    ):
        assert reproduce.main(arguments) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert message in lines[0]
