"""Seq-NMS, score removal and submission against the released scripts, as dictionaries with their element
types."""

import json
import pickle

import golden_data
import numpy as np
import pytest

from jaxdet import seqnms, submit
from jaxdet.formats import plain_pickle
from jaxdet.postprocess import overlaps


@pytest.fixture(autouse=True)
def few_shapes(monkeypatch):
    monkeypatch.setattr(overlaps, "_FRAME_SIZES", (64, 512))
    monkeypatch.setattr(overlaps, "_BOX_SIZES", (16, 64))


def _json(name):
    return json.loads(str(golden_data.load("yolo/evaluate")[name]))


@pytest.fixture
def months(tmp_path):
    """Prediction files by month, as the released test script names them, and the frames of the test set."""
    files = {}
    for month, content in _json("e2e__inputs_json").items():
        files[month] = tmp_path / f"{month}_1536_w_51_0.5_0.1.pkl"
        plain_pickle.dump(files[month], content)
    for month, clips in _json("e2e__clips_json").items():
        for date, clip, num_frames in clips:
            folder = tmp_path / "data" / "Test" / month / "frames" / date / clip
            folder.mkdir(parents=True)
            for number in range(num_frames):
                (folder / f"image_{number:04d}.jpg").touch()
    return files


def _types(content):
    boxes = {type(value) for entry in content.values() for box in entry["boxes"] for value in box}
    labels = {type(label) for entry in content.values() for label in entry["labels"]}
    return {kind.__name__ for kind in boxes} | {f"label:{kind.__name__}" for kind in labels}


@pytest.mark.parametrize("min_score", [0.5, 0.7])
def test_seqnms_and_submit_equal_the_released_scripts(months, tmp_path, min_score):
    results = []
    for month, path in months.items():
        results.append(str(tmp_path / f"{month}.pkl"))
        arguments = [f"--detections={path}", f"--min_score={min_score}", f"--out={results[-1]}"]
        assert seqnms.main(arguments) == 0
        assert plain_pickle.load(results[-1]) == _json(f"e2e__seqnms_json_{min_score}")[month]
    out = tmp_path / "predictions.pkl"
    assert (
        submit.main([f"--detections={','.join(results)}", f"--data={tmp_path / 'data'}", f"--out={out}"]) == 0
    )
    content = pickle.loads(out.read_bytes())
    assert content == _json(f"e2e__predictions_json_{min_score}")
    kinds = set().union(*(_types(entries) for entries in content.values()))
    assert kinds == set(golden_data.load("yolo/evaluate")[f"e2e__element_types_{min_score}"].tolist())
    assert out.read_bytes()[:2] == b"\x80\x04"


@pytest.mark.parametrize("threshold", [0.1, 0.6])
def test_score_removal_equals_the_released_script(months, tmp_path, threshold):
    for month, path in months.items():
        out = tmp_path / f"{month}.pkl"
        assert (
            seqnms.main([f"--detections={path}", "--rule=score", f"--min_score={threshold}", f"--out={out}"])
            == 0
        )
        content = plain_pickle.load(out)
        assert content == _json(f"remove_scores__{threshold}")[month]
        assert _types(content) <= {"float", "int", "label:int"}


def test_the_files_read_back_as_what_was_stored(months):
    inputs = _json("e2e__inputs_json")
    for month, path in months.items():
        assert plain_pickle.load(path) == inputs[month]
        assert np.concatenate([entry["scores"] for entry in inputs[month].values()]).max() <= 1
