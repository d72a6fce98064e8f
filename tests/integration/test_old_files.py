"""Files that version 0.1.0 wrote are still read, by the commands alone: see
tests/fixtures_0_1_0/README.md."""

import json
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxdet import convert, evaluate, predict, prepare, seqnms, submit, train
from jaxdet.formats import yolo
from jaxdet.structs import ReadReport

FIXTURES = Path(__file__).parent.parent / "fixtures_0_1_0"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
PUT_IN, COMPUTED = EXPECTED["put_in"], EXPECTED["computed_by_0_1_0"]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old") / "files"
    shutil.copytree(FIXTURES, folder)
    with tarfile.open(folder / "files.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(autouse=True)
def old_files(unpacked, monkeypatch):
    """The working directory: configs name their data relative to it, as they did in 0.1.0."""
    monkeypatch.chdir(unpacked)
    return unpacked


def _lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def _precisions(out, *arguments):
    """AP of each class that `evaluate` writes."""
    assert evaluate.main([*arguments, f"--out={out}"]) == 0
    return json.loads(out.read_text())


# Runs and weights


def _resume(name, step, workdir, *flags):
    """Resume a copy of an interrupted run, of which one step is left."""
    shutil.copytree(name, workdir)
    assert train.main([f"--config={name.removesuffix('_run')}.py", f"--workdir={workdir}", *flags]) == 0
    steps = [path.name for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()]
    assert steps == [str(step + 1)]
    # The loss 0.1.0 found in this step. Another compilation rounds otherwise, which moved it by 1e-6 of its
    # value.
    losses = [line["loss"] for line in _lines(workdir / "train.jsonl")]
    np.testing.assert_allclose(losses, COMPUTED["losses_of_the_resumed_run"][name], rtol=1e-4)


def test_an_interrupted_run_is_resumed(tmp_path):
    _resume("events_run", 3, tmp_path / "run", "--config.train.evaluate_every=0")


@pytest.mark.slow  # compiles evaluation as well
def test_a_resumed_run_is_evaluated_beside_its_best(tmp_path):
    _resume("events_run", 3, tmp_path / "run")
    assert [line["step"] for line in _lines(tmp_path / "run" / "validation.jsonl")] == [2, 4]


@pytest.mark.slow  # compiles a whole YOLOX: a minute
def test_an_interrupted_run_on_images_is_resumed(tmp_path):
    _resume("images_run", 2, tmp_path / "run")


# Not of `events_run`: the torch file of a run with AdamW holds the optimiser's numbers as well.
@pytest.mark.parametrize("name", ["events_run/best", "events_weights", "images_run"])
def test_weights_are_those_that_were_saved(name, tmp_path):
    config = "events.py" if name.startswith("events") else "images.py"
    out = tmp_path / "weights.pth"
    assert convert.main([f"--config={config}", f"--weights={name}", f"--to_torch={out}"]) == 0
    with zipfile.ZipFile(out) as archive:
        parts = [np.frombuffer(archive.read(n), "<f4") for n in archive.namelist() if "/data/" in n]
    values = np.concatenate(parts).astype(np.float64)
    # Counters of batches are small integers, which read as floats are zero but for the 38th digit.
    expected = COMPUTED["weights"][name]
    found = [values.sum(), np.abs(values).sum()]
    np.testing.assert_allclose(found, [expected["sum"], expected["sum_of_magnitudes"]], rtol=1e-9)


def test_boxes_of_a_prepared_recording_are_those_of_0_1_0(tmp_path):
    out = tmp_path / "day.npy"
    assert predict.main(["--weights=events_weights", "--input=recordings/train/day", f"--out={out}"]) == 0
    table = np.load(out)
    _, first = np.unique(table["t"], return_index=True)  # of each step the box that scores highest
    names = ("t", "x", "y", "w", "h", "class_id", "class_confidence")
    found = np.stack([table[name][first] for name in names], axis=1)
    with np.load("predicted.npz") as archive:
        # Another compilation or processor adds in another order, which the memories carry on: 0.0013 pixels
        # were seen. The events of a step move boxes by about 0.01 pixels.
        np.testing.assert_allclose(found, archive["recording"], rtol=1e-4, atol=4e-3)


def test_boxes_of_images_are_those_of_0_1_0(tmp_path):
    out = tmp_path / "boxes.json"
    assert predict.main(["--weights=images_weights", "--images=frames/Sep/images", f"--out={out}"]) == 0
    best: dict[str, dict] = {}
    for row in json.loads(out.read_text()):
        if row["image_id"] not in best or row["score"] > best[row["image_id"]]["score"]:
            best[row["image_id"]] = row
    # 0.1.0 wrote the index of the class, today its category counts from 1.
    found = [[row["category_id"] - 1, *row["bbox"], row["score"]] for _, row in sorted(best.items())]
    with np.load("predicted.npz") as archive:
        np.testing.assert_allclose(found, archive["images"], rtol=1e-3, atol=1e-3)  # as above


# Prepared data


def test_prepared_recordings_are_kept(caplog):
    source = ["--source=events_source", "--out=recordings", "--duration_s=0", "--allow_empty", "--workers=1"]
    assert prepare.main(["gen1", *source, "--verify"]) == 0
    assert "0 recordings made, 2 kept, 0 problems" in caplog.text


def test_prepared_frames_are_kept(caplog):
    source = ["--source=frames_source", "--out=frames", "--lists=all", "--workers=1"]
    assert prepare.main(["ltd", *source, "--verify"]) == 0
    assert "0 frames made, 6 kept" in caplog.text


# Detections

# By the keys that files which hold none give to frames.
_NUMBERED = {key: f"Sep_{int(key[-4:]):04d}" for key in PUT_IN["frames"]}


def _put_in(keys=None, first_label=0):
    """(key, label, left, top, width, height, score) of every box that was put in."""
    return sorted(
        (keys[key] if keys else key, label + first_label, x1, y1, x2 - x1, y2 - y1, score)
        for key, frame in PUT_IN["frames"].items()
        for (x1, y1, x2, y2), label, score in zip(frame["boxes"], frame["labels"], frame["scores"])
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Category ids of COCO results count from 1 where classes have names; 0.1.0 wrote their index.
        ("images.h5", _put_in(first_label=1)),
        ("frames.h5", _put_in(first_label=1)),
        ("Sep.pkl", _put_in()),
        ("Sep.npz", _put_in()),
        ("Sep.txt", _put_in(_NUMBERED)),
        ("results.json", _put_in(PUT_IN["image_ids"], first_label=1)),
    ],
)
def test_detections_hold_what_was_put_in(name, expected, tmp_path):
    out = tmp_path / "boxes.json"
    arguments = [f"--detections=detections/{name}", "--rule=score", "--min_score=0.01", f"--out={out}"]
    assert seqnms.main(arguments) == 0
    rows = json.loads(out.read_text())
    # All values are multiples of 1/16, which every format holds exactly.
    assert sorted((r["image_id"], r["category_id"], *r["bbox"], r["score"]) for r in rows) == expected


def _submission(path):
    """Boxes and labels by frame, in the order of their labels: Seq-NMS puts the rows in another."""
    (frames,) = pickle.loads(path.read_bytes()).values()
    return {key: sorted(zip(f["labels"], map(list, f["boxes"]))) for key, f in frames.items()}


@pytest.mark.parametrize("name", ["Sep.pkl", "Sep_without_scores.pkl", "Sep_seqnms.pkl"])
def test_pickles_become_the_submission_of_0_1_0(name, tmp_path):
    out = tmp_path / "predictions.pkl"
    assert submit.main([f"--detections=detections/{name}", "--data=frames", f"--out={out}"]) == 0
    placeholder = [(0, [0, 0, 0, 0])]
    expected = {
        key: sorted(zip(f["labels"], f["boxes"])) or placeholder for key, f in PUT_IN["frames"].items()
    }
    assert _submission(out) == expected
    assert _submission(Path("detections/predictions.pkl")) == expected


def test_yolo_text_holds_what_was_put_in():
    # No command reads YOLO text with scores.
    for key, frame in PUT_IN["frames"].items():
        found = yolo.read_text(Path("detections/yolo") / f"{key}.txt", (288, 384), ReadReport())
        # Six decimals of the width: 384 * 5e-7, for centre and half of the size.
        np.testing.assert_allclose(found.xyxy, np.reshape(frame["boxes"], (-1, 4)), atol=4e-4)
        assert (found.scores.tolist(), found.labels.tolist()) == (frame["scores"], frame["labels"])


# The human is found in both frames, the vehicle where none is labelled, and the others are not labelled: 0.5.
@pytest.mark.parametrize("name", ["images.h5", "results.json"])
def test_detections_of_images_are_measured(name, tmp_path):
    arguments = [f"--detections=detections/{name}", "--annotations=detections/annotations.json"]
    found = _precisions(tmp_path / "out.json", *arguments)
    assert found["statistics"]["AP"] == pytest.approx(0.5)


# The car is found at each labelled time, the pedestrian in another corner.
@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("recordings.h5", ["--labels=events_source/train"]),
        ("recordings", ["--labels=events_source/train"]),
        ("recordings.h5", ["--config=events.py", "--split=train"]),
    ],
)
def test_detections_of_recordings_are_measured(name, labels, tmp_path):
    found = _precisions(tmp_path / "out.json", f"--detections=detections/{name}", *labels)
    assert found["statistics"]["AP"] == pytest.approx(0.5)
