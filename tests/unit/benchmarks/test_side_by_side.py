"""The film of the example: truth between label times, and both pictures beside each other."""

import numpy as np

from jaxdet.benchmarks.side_by_side import Film, Truth
from jaxdet.data.events.recordings import LABEL_DTYPE
from jaxdet.structs import Boxes


def _labels(*rows):
    labels = np.zeros(len(rows), LABEL_DTYPE)
    for label, (t, x, track) in zip(labels, rows, strict=True):
        label["t"], label["x"], label["track_id"] = t, x, track
        label["y"], label["w"], label["h"], label["class_id"] = 5, 10, 20, track
    return labels


def test_a_track_is_linear_between_its_labels_and_ends_with_its_reach():
    truth = Truth(_labels((1000, 0, 0), (3000, 20, 0), (4000, 7, 1)), reach_us=1200)
    np.testing.assert_allclose(truth.at(2000).xyxy, [[10, 5, 20, 25]])
    assert truth.at(3000).labels.tolist() == [0, 1]
    assert len(truth.at(5300)) == 0


def test_an_invalid_label_is_not_shown():
    labels = _labels((1000, 0, 0))
    labels["invalid"] = True
    assert len(Truth(labels, 1000).at(1000)) == 0


def test_a_picture_has_truth_on_the_left_and_the_boxes_that_score_on_the_right():
    pictures = []
    film = Film(lambda p, n: pictures.append((p, n)), Truth(_labels(), 1), (40, 60), 10_000, ("car",), 0.3)
    boxes = Boxes(
        np.array([[10, 10, 30, 30], [40, 5, 50, 15]], np.float32), np.array([0.9, 0.1]), np.zeros(2, int)
    )
    film.add(np.zeros(0, int), np.zeros(0, int), np.zeros(0, int), boxes, 5000, False)
    film.add(np.zeros(0, int), np.zeros(0, int), np.zeros(0, int), boxes, 10_000, True)
    ((picture, count),) = pictures
    assert count == 1
    assert picture.shape == (80 + 80, 2 * 120 + 4, 3)
    above = picture[:55]  # without the titles
    assert (above[:, :120] == above[0, 0]).all()
    assert not (above[:, 124:] == above[0, 0]).all()


def test_the_best_picture_is_the_latest_with_the_most_true_boxes(tmp_path):
    labels = _labels((1000, 0, 0), (2000, 0, 0), (2000, 20, 1), (3000, 20, 1), (3000, 0, 2), (4000, 0, 2))
    pictures = []
    film = Film(lambda p, n: pictures.append(p), Truth(labels, 1), (40, 60), 10_000, ("a", "b", "c"), 0.3)
    none = np.zeros(0, int)
    for t_us, found in ((1000, 3), (2000, 0), (3000, 1), (4000, 5)):
        boxes = Boxes(np.zeros((found, 4), np.float32), np.ones(found), np.zeros(found, int))
        film.add(none, none, none, boxes, t_us, True)
    assert film.best is not None
    assert film.best[0] == 2
    np.testing.assert_array_equal(film.best[1], pictures[2])
    film.write_best(tmp_path / "best.png")
    assert (tmp_path / "best.png").stat().st_size > 0
