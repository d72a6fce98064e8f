"""Submission files and the challenge's metric by month."""

import numpy as np
import pytest
from scipy.optimize import linprog

from jaxdet import submit
from jaxdet.challenges import reproduction, submission
from jaxdet.errors import InputError
from jaxdet.evaluation import months
from jaxdet.formats import BoxFile, pickle
from jaxdet.structs import Boxes, ReadReport

# The three published rows: weighted mean, plain mean, the months from January on.
PUBLISHED = {
    "day": (0.279846, 0.2832, (0.3048, 0.3021, 0.3073, 0.2674, 0.2748, 0.2306, 0.2829, 0.2955)),
    "week": (0.323652, 0.3305, (0.3708, 0.3502, 0.3323, 0.2774, 0.2924, 0.2506, 0.3162, 0.4542)),
    "month": (0.337645, 0.3464, (0.4142, 0.3729, 0.3414, 0.3032, 0.2933, 0.2567, 0.3112, 0.4779)),
}


def _frames(root, month, num_frames):
    folder = root / "Test" / month / "frames" / "20210901" / "clip_1_0001"
    folder.mkdir(parents=True)
    for number in range(num_frames):
        (folder / f"image_{number:04d}.jpg").touch()


def _entry(key, score=0.5):
    return {key: {"boxes": [[1.0, 2.0, 3.0, 4.0]], "labels": [1], "scores": [score]}}


@pytest.mark.parametrize("track", PUBLISHED)
def test_means_reproduce_the_published_rows(track):
    weighted, plain, values = PUBLISHED[track]
    by_month = dict(zip(months.MONTHS, values))
    assert abs(months.plain_mean(by_month) - plain) < 5.1e-5  # both published to four decimals
    assert abs(months.weighted_mean(by_month) - weighted) < 5e-5


def test_one_vector_of_positive_weights_fits_all_published_rows():
    """A linear program finds it; the estimate is such a vector."""
    values = np.array([row[2] for row in PUBLISHED.values()])
    weighted = np.array([row[0] for row in PUBLISHED.values()])
    limits = np.concatenate([weighted + 5e-5, 5e-5 - weighted])
    found = linprog(
        np.zeros(8), np.concatenate([values, -values]), limits, np.ones((1, 8)), [1], bounds=[(1e-3, 1)] * 8
    )
    assert found.success
    months.check_weights(months.ESTIMATED_WEIGHTS)


def test_weights_must_cover_the_months_and_sum_to_one():
    with pytest.raises(InputError, match="expected one of each"):
        months.check_weights({"Jan": 1.0})
    with pytest.raises(InputError, match="sum to 1"):
        months.check_weights(dict.fromkeys(months.MONTHS, 0.2))


def test_missing_frames_get_the_placeholder(tmp_path):
    _frames(tmp_path, "Sep", 3)
    plain_pickle.dump(tmp_path / "Sep.pkl", _entry("20210901_clip_1_0001_0001"))
    out = tmp_path / "predictions.pkl"
    assert submit.main([f"--detections={tmp_path}/Sep.pkl", f"--data={tmp_path}", f"--out={out}"]) == 0
    empty = {"boxes": [[0, 0, 0, 0]], "labels": [0]}
    assert plain_pickle.load(out) == {
        "Sep": {
            "20210901_clip_1_0001_0001": {"boxes": [[1.0, 2.0, 3.0, 4.0]], "labels": [1]},
            "20210901_clip_1_0001_0000": empty,
            "20210901_clip_1_0001_0002": empty,
        }
    }


def test_the_challenge_counts_sum_to_its_test_set():
    content = {"Sep": {f"20210901_clip_1_0001_{i:04d}": {} for i in range(184)}}
    submission.check_counts(content)


@pytest.mark.parametrize(
    ("files", "with_data", "message"),
    [
        ({"Feb.pkl": _entry("a_0000")}, False, "month 'Feb'; expected a name that begins with Jan"),
        ({"Sep.pkl": _entry("a_0000")}, False, "Sep: 1 frames, expected 184"),
        ({"Sep.pkl": _entry("a_0000")}, True, "prediction for a_0000, which is not among its 3 frames"),
        ({"Sep_a.pkl": _entry("a_0000"), "Sep_b.pkl": _entry("a_0000")}, True, "a_0000 comes twice"),
        ({"Sep.pkl": _entry("a_0000", float("nan"))}, True, "not finite"),
        ({"Jan.pkl": _entry("a_0000")}, True, "no frames of Jan"),
        ({"Sep.pkl": _entry("20210401_a_0000")}, True, "frame 20210401_a_0000 is of Apr"),
    ],
)
def test_bad_submissions_are_one_clear_line(tmp_path, capsys, files, with_data, message):
    _frames(tmp_path, "Sep", 3)
    for name, content in files.items():
        plain_pickle.dump(tmp_path / name, content)
    arguments = [
        f"--detections={','.join(str(tmp_path / name) for name in files)}",
        f"--out={tmp_path}/p.pkl",
    ]
    assert submit.main(arguments + [f"--data={tmp_path}"] * with_data) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "p.pkl").exists()


def test_rows_without_scores_rank_by_their_order(tmp_path):
    """The first of two boxes on one object is the hit, whichever comes first in the file."""
    truth = Boxes(np.array([[10.0, 10, 50, 50]]), np.ones(1), np.zeros(1, np.int32), source="a_0000")
    labels = BoxFile([truth], ("human",), False, ReadReport())
    right, wrong = [10.0, 10, 50, 50], [100.0, 100, 150, 150]

    def precision(*boxes):
        content = {"a_0000": {"boxes": list(boxes), "labels": [0, 0]}}
        return months.precision(labels, pickle.from_dict(content, "x").frames).ap50

    np.testing.assert_allclose(precision(right, wrong), 1.0)
    np.testing.assert_allclose(precision(wrong, right), 0.5)


def test_ltd_annotations_are_read(tmp_path):
    folder = tmp_path / "Sep" / "annotations" / "20210901" / "clip_1_0001"
    folder.mkdir(parents=True)
    (folder / "annotations_0000.txt").write_text("7 vehicle 10 20 30 40 0\n8 human 1 2 3 4 extra\n")
    (folder / "annotations_0001.txt").touch()
    labels = months.read_labels(tmp_path)
    assert [b.source for b in labels.frames] == ["20210901_clip_1_0001_0000", "20210901_clip_1_0001_0001"]
    first, second = labels.frames
    assert first.labels.tolist() == [3, 0]
    assert first.xyxy.tolist() == [[10, 20, 30, 40], [1, 2, 3, 4]]
    assert len(second) == 0
    (folder / "annotations_0002.txt").write_text("7 tank 1 2 3 4\n")
    with pytest.raises(InputError, match=r"annotations_0002.txt:1: class 'tank', expected one of"):
        months.read_labels(tmp_path)


def test_drift_is_a_picture_of_the_months_there_are(tmp_path):
    reproduction.drift(tmp_path / "drift.png", {"plain": {"Sep": 0.5, "Jan": 0.3}, "Seq-NMS": {"Jan": 0.4}})
    assert (tmp_path / "drift.png").read_bytes()[:4] == b"\x89PNG"
