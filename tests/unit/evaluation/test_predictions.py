"""Predictions in foreign layouts: what is read, what is refused."""

import json
import os
import pickle

import numpy as np
import pytest

from jaxdet import seqnms as command
from jaxdet.errors import InputError
from jaxdet.evaluation import pickles, predictions, store
from jaxdet.postprocess import overlaps
from jaxdet.postprocess.seqnms import Frame, Options


@pytest.fixture(autouse=True)
def few_shapes(monkeypatch):
    monkeypatch.setattr(overlaps, "_FRAME_SIZES", (64,))
    monkeypatch.setattr(overlaps, "_BOX_SIZES", (16,))


def _frame(*rows):
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Frame(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def _dictionary(frames):
    return {
        key: {"boxes": f.boxes.tolist(), "scores": f.scores.tolist(), "labels": f.labels.tolist()}
        for key, f in frames.items()
    }


@pytest.fixture
def walk():
    """One object that moves 2 pixels a frame for 6 frames, seen twice in some."""
    frames = {}
    for t in range(6):
        rows = [(10 + 2 * t, 20, 40 + 2 * t, 60, 0.4 + 0.1 * t, 1)]
        if t % 2:
            rows.append((12 + 2 * t, 21, 41 + 2 * t, 61, 0.3, 1))
        frames[f"20210901_clip_1_0001_{t:04d}"] = _frame(*rows)
    return frames


@pytest.mark.parametrize("suffix", ["npz", "txt", "json"])
def test_layouts_with_scores_read_back_what_was_written(walk, tmp_path, suffix):
    path = tmp_path / f"clip.{suffix}"
    predictions.write(path, predictions.of(walk))
    found = predictions.read(path)
    assert len(found.clips) == 1
    for a, b in zip(walk.values(), found.frames.values()):
        for x, y in zip(a, b):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-6)  # text carries 6 digits


@pytest.mark.parametrize("suffix", ["npz", "txt", "json", "h5", "pkl"])
def test_seqnms_gives_the_same_in_every_layout(walk, tmp_path, suffix):
    source, out = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    if suffix == "pkl":
        pickles.dump(source, _dictionary(walk))
    elif suffix == "h5":
        with store.create(source, ["a", "b"], "name") as writer:
            for key, frame in walk.items():
                writer.append("20210901_clip_1_0001", key, (384, 288), *frame)
    else:
        predictions.write(source, predictions.of(walk))
    assert command.main([f"--detections={source}", "--min_score=0.5", f"--out={out}"]) == 0
    found = predictions.read(out)
    for t, frame in enumerate(found.frames.values()):
        np.testing.assert_allclose(frame.boxes, [[10 + 2 * t, 20, 40 + 2 * t, 60]], atol=1e-5)
        if found.has_scores:
            np.testing.assert_allclose(frame.scores, [0.65], atol=1e-5)  # the mean of 0.4 to 0.9


def test_clips_are_told_apart_up_to_the_last_number():
    """Under prefix matching clip_1_00011 would join clip_1_0001, and its weak box would link to a strong one."""
    box = (10, 10, 50, 50)
    frames = {
        "20210901_clip_1_00011_0000": _frame((*box, 0.2, 0)),
        "20210901_clip_1_0001_0000": _frame((*box, 0.9, 0)),
        "20210901_clip_1_0001_0001": _frame((*box, 0.8, 0)),
    }
    found = predictions.of(frames)
    assert found.clips == {
        "20210901_clip_1_0001": ["20210901_clip_1_0001_0000", "20210901_clip_1_0001_0001"],
        "20210901_clip_1_00011": ["20210901_clip_1_00011_0000"],
    }
    result = predictions.rescore(found, Options(min_score=0.1)).frames
    assert result["20210901_clip_1_00011_0000"].scores.tolist() == [0.2]
    np.testing.assert_allclose(result["20210901_clip_1_0001_0000"].scores, [0.85], rtol=1e-15)


def test_frames_of_a_clip_are_in_order_of_their_number():
    assert predictions.clips_of(["a_10000", "a_9999", "a_0002"]) == {"a": ["a_0002", "a_9999", "a_10000"]}


def test_a_gap_is_skipped_in_a_detections_file_as_in_a_pickle(tmp_path, walk):
    """The detections file knows frames without boxes, the pickle leaves them out; both must link across."""
    gap = {key: (_frame() if t in (2, 3) else frame) for t, (key, frame) in enumerate(walk.items())}
    with store.create(tmp_path / "in.h5", ["a", "b"], "name") as writer:
        for key, frame in gap.items():
            writer.append("20210901_clip_1_0001", key, (384, 288), *frame)
    pickles.dump(tmp_path / "in.pkl", _dictionary({k: f for k, f in gap.items() if len(f.scores)}))
    for suffix in ("h5", "pkl"):
        arguments = [f"--detections={tmp_path}/in.{suffix}", f"--out={tmp_path}/{suffix}.pkl"]
        assert command.main(arguments) == 0
    assert pickles.load(tmp_path / "h5.pkl") == pickles.load(tmp_path / "pkl.pkl")


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_numbers_in_a_pickle_are_read(tmp_path, protocol):
    content = {"a_0000": {"boxes": [[np.float64(1.5), np.float32(2), 3, 4.0]], "labels": [np.int64(2)]}}
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    assert pickles.load(path) == content
    assert predictions.read(path).numpy_numbers


class _Code:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("content", [_Code(), {"a_0000": {"boxes": [_Code()]}}, np.zeros(3, object), print])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, monkeypatch, capsys, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    assert command.main(["--detections=x.pkl", "--out=y.pkl"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "x.pkl: asks for" in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.pkl"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"frame": {"boxes": [], "labels": [], "scores": []}}, "frame key 'frame'; expected <clip>_<frame number>"),
        ({"a_0001": {"boxes": [[1, 2, 3, 4]], "labels": [0], "scores": [float("nan")]}}, "not finite"),
        ({"a_0001": {"boxes": [[1, 2, 3, 4]], "labels": [0, 1], "scores": [0.5]}}, "1 boxes, 1 scores, 2 labels"),
        ({"a_0001": {"boxes": [[1, 2, 3]], "labels": [0], "scores": [0.5]}}, "expected boxes, labels"),
        ({"a_0001": {}, "a_1": {}}, "expected boxes, labels"),
        ([1], "a list, expected a dictionary"),
        ({"a_0001": {"boxes": [[1, 2, 3, 1 << 2000]], "labels": [0], "scores": [0.5]}}, "OverflowError"),
        ({"a_0001": {"boxes": [[1, 2, 3, 4]], "labels": [1 << 70], "scores": [0.5]}}, "OverflowError"),
        ({"a_0001": {"boxes": [], "labels": {}, "scores": []}}, "expected boxes, labels"),
        ({5: {"boxes": [], "labels": [], "scores": []}}, "frame key 5; expected text"),
        ({"a\n_1": {"boxes": [], "labels": [], "scores": []}}, "frame key 'a.*; expected text"),
    ],
)  # fmt: skip
def test_bad_content_is_one_clear_line(tmp_path, content, message):
    pickles.dump(tmp_path / "x.pkl", content)
    with pytest.raises(InputError, match=message) as raised:
        predictions.read(tmp_path / "x.pkl")
    assert "\n" not in str(raised.value)


def test_a_frame_that_comes_twice_is_refused(tmp_path):
    one = _frame((1, 2, 3, 4, 0.5, 0))
    with pytest.raises(InputError, match="frame 1 appears twice"):
        predictions.of({"a_1": one, "a_0001": one})
    arrays = {"counts": [1, 1], "boxes": np.ones((2, 4)), "scores": [0.5, 0.5], "labels": [0, 0]}
    np.savez(tmp_path / "x.npz", keys=["a_1", "a_1"], **arrays)
    with pytest.raises(InputError, match="appears twice"):
        predictions.read(tmp_path / "x.npz")


def test_scores_are_needed_to_rescore(tmp_path, walk, capsys):
    predictions.write(tmp_path / "x.pkl", predictions.of(walk))
    assert command.main([f"--detections={tmp_path}/x.pkl", f"--out={tmp_path}/y.pkl"]) == 1
    assert "no scores" in capsys.readouterr().err


def test_coco_image_ids_keep_their_type(tmp_path):
    rows = [{"image_id": 17, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    predictions.write(tmp_path / "y.json", predictions.read(tmp_path / "x.json"))
    assert json.loads((tmp_path / "y.json").read_text()) == rows


@pytest.mark.parametrize("end", [0, 1, 10, -1])
def test_a_pickle_that_is_cut_short_is_refused(tmp_path, walk, end):
    whole = pickle.dumps(_dictionary(walk))
    (tmp_path / "x.pkl").write_bytes(whole[:end])
    with pytest.raises(InputError, match="not a readable pickle"):
        predictions.read(tmp_path / "x.pkl")
