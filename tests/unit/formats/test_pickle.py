"""The released pickle: what is read, what is refused, what is written."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.formats import pickle as released
from jaxdet.formats import plain_pickle
from jaxdet.structs import Boxes


def _boxes(xyxy, scores, **where):
    return Boxes(np.array(xyxy, np.float32), np.array(scores, np.float32), np.arange(len(scores)), **where)


def test_numbers_are_those_of_the_released_test(tmp_path):
    """Python's round decides alike: a float32 times 1000 is exact in float64."""
    rng = np.random.default_rng(0)
    boxes = _boxes(rng.uniform(-50, 2000, (500, 4)), rng.random(500), source="a/Sep_0001.png")
    released.write(tmp_path / "x.pkl", [boxes, _boxes(np.zeros((0, 4)), [], source="a/Sep_0002.png")])
    assert plain_pickle.load(tmp_path / "x.pkl") == {
        "Sep_0001": {
            "boxes": [[round(v, 3) for v in row] for row in boxes.xyxy.tolist()],
            "labels": boxes.labels.tolist(),
            "scores": [round(v, 5) for v in boxes.scores.tolist()],
        }
    }


def test_entries_without_scores_have_the_released_element_types():
    boxes = _boxes([[1, 2, 3, 4]], [0.5])
    for numpy_numbers, kind in ((True, np.float64), (False, float)):
        entry = released.entry(boxes, numpy_numbers)
        assert {type(v) for row in entry["boxes"] for v in row} == {kind}
        assert [type(v) for v in entry["labels"]] == [int]
    assert released.entry(boxes.take(slice(0)), True) == {"boxes": [[0, 0, 0, 0]], "labels": [0]}


def test_two_images_of_one_name_are_refused(tmp_path):
    frames = [_boxes([[1, 2, 3, 4]], [0.5], source=f"{folder}/1.jpg") for folder in "ab"]
    with pytest.raises(InputError, match="2 images are called 1"):
        released.write(tmp_path / "x.pkl", frames)


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_numbers_in_a_pickle_are_read(tmp_path, protocol):
    content = {"a_0000": {"boxes": [[np.float64(1.5), np.float32(2), 3, 4.0]], "labels": [np.int64(2)]}}
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = released.read(path)
    assert found.metadata == {"rule": "seqnms"}
    assert not found.has_scores
    assert found.frames[0].xyxy.tolist() == [[1.5, 2, 3, 4]]


def test_scores_are_in_all_frames_or_in_none(tmp_path):
    scored = {"boxes": [[1.0, 2.0, 3.0, 4.0]], "labels": [1], "scores": [0.25]}
    plain = {name: scored[name] for name in ("boxes", "labels")}
    plain_pickle.dump(tmp_path / "x.pkl", {"a_0000": scored, "a_0001": released.PLACEHOLDER})
    found = released.read(tmp_path / "x.pkl")
    assert [boxes.scores.tolist() for boxes in found.frames] == [[0.25], []]
    plain_pickle.dump(tmp_path / "x.pkl", {"a_0000": scored, "a_0001": plain})
    with pytest.raises(InputError, match=r"a_0001: .*without scores, which others have"):
        released.read(tmp_path / "x.pkl")


class _Code:
    def __reduce__(self):
        return Path.mkdir, (Path("harm"),)


@pytest.mark.parametrize("content", [_Code(), {"a_0000": {"boxes": [_Code()]}}, np.zeros(3, object), print])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=r"x.pkl"):
        released.read("x.pkl")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pkl"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"a_0001": {"boxes": [[1, 2, 3, 4]], "labels": [0, 1], "scores": [0.5]}},
            "1 boxes, 1 scores, 2 labels",
        ),
        ({"a_0001": {"boxes": [[1, 2, 3]], "labels": [0], "scores": [0.5]}}, "expected boxes, labels"),
        ({"a_0001": {"boxes": [[1, 2, 3, 4]], "labels": [2**40], "scores": [0.5]}}, "expected boxes, labels"),
        ({"a_0001": {}, "a_1": {}}, "expected boxes, labels"),
        ({7: {}}, "frame key 7; expected text"),
        ([1], "a list, expected a dictionary"),
    ],
)  # fmt: skip
def test_bad_content_is_one_clear_line(tmp_path, content, message):
    plain_pickle.dump(tmp_path / "x.pkl", content)
    with pytest.raises(InputError, match=message) as raised:
        released.read(tmp_path / "x.pkl")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("end", [0, 1, 10, -1])
def test_a_pickle_that_is_cut_short_is_refused(tmp_path, end):
    whole = pickle.dumps({"a_0000": {"boxes": [[1.0, 2, 3, 4]], "labels": [0], "scores": [0.5]}})
    (tmp_path / "x.pkl").write_bytes(whole[:end])
    with pytest.raises(InputError, match=r"x.pkl"):
        released.read(tmp_path / "x.pkl")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a_0001": {"boxes": [[1, 2, 3, 1 << 2000]], "labels": [0], "scores": [0.5]}}, "not numbers"),
        ({"a_0001": {"boxes": [[1, 2, 3, 4]], "labels": [1 << 70], "scores": [0.5]}}, "not numbers"),
        ({"a_0001": {"boxes": [["1", "2", "3", "4"]], "labels": [0], "scores": [0.5]}}, "boxes of type"),
        ({"a_0001": {"boxes": [[1, 2, 3, 4]], "labels": [0.5], "scores": [0.5]}}, "label 0.5"),
        ({"a_0001": {"boxes": [[1, 2, 3, 4]], "labels": [-1], "scores": [0.5]}}, "label -1"),
        ({"a_0001": {"boxes": [], "labels": {}, "scores": []}}, "expected boxes, labels"),
        ({5: {"boxes": [], "labels": [], "scores": []}}, "frame key 5; expected text"),
        ({"a\n_1": {"boxes": [], "labels": [], "scores": []}}, "frame key 'a.*; expected text"),
    ],
)
def test_numbers_and_names_that_no_frame_has_are_one_line(content, said):
    with pytest.raises(InputError, match=said):
        released.from_dict(content, "file")
