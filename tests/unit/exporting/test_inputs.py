"""Inputs of the comparison: the recordings and images of the user, as the exported file takes them."""

import numpy as np
import pytest

from jaxdet.data.events import evt
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError
from jaxdet.exporting import inputs
from jaxdet.structs import EventGeometry

GEOMETRY = EventGeometry(height=24, width=32)


def _events(width, height, count=3000, seconds=0.05, start_us=16_000_000):
    rng = np.random.default_rng(0)
    t_us = start_us + np.sort(rng.integers(0, int(seconds * 1e6), count))
    return t_us, rng.integers(0, width, count), rng.integers(0, height, count), rng.integers(0, 2, count)


def test_a_recording_is_given_step_by_step_in_order_of_cells(tmp_path):
    t_us, x, y, polarity = _events(32, 24)
    path = tmp_path / "mine.npy"
    np.save(path, np.stack([t_us, x, y, polarity], 1))
    found = []
    for step, given in enumerate(inputs.steps(GEOMETRY, 512, path)):
        count = int(given["count"][0])
        xy = given["xy"][0, :count]
        cell = xy[:, 1] // 4 * 8 + xy[:, 0] // 4
        assert (np.diff(cell) >= 0).all()
        assert (given["t_us"][0, :count] < 5000).all()
        assert not given["xy"][0, count:].any()
        t = given["t_us"][0, :count] + step * 5000
        found.append(np.stack([t, *xy.T, given["polarity"][0, :count]], 1))
    rows = np.concatenate(found)
    first = t_us[0] // 5000 * 5000
    expected = np.stack([t_us - first, x, y, polarity], 1)
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])


def test_a_recording_of_a_larger_camera_is_fitted(tmp_path):
    evt.write_evt3(tmp_path / "mine.raw", EventChunk(*_events(64, 48)), 64, 48)
    given = list(inputs.steps(GEOMETRY, 512, tmp_path / "mine.raw"))
    assert sum(int(g["count"][0]) for g in given) == 3000
    assert max(g["xy"][0, :, 0].max() for g in given) <= 31
    assert max(g["xy"][0, :, 1].max() for g in given) <= 23


def test_too_many_events_are_one_line(tmp_path):
    np.save(tmp_path / "mine.npy", np.stack(_events(32, 24), 1))
    with pytest.raises(InputError, match="raise --events"):
        list(inputs.steps(GEOMETRY, 128, tmp_path / "mine.npy"))


def test_images_are_grouped_and_the_last_group_is_filled():
    def grouped(count, batch):
        images = (np.full((1, 3, 4, 4), i, np.float32) for i in range(count))
        return [one["images"][:, 0, 0, 0].tolist() for one in inputs.batches(images, batch)]

    assert grouped(3, 1) == [[0], [1], [2]]
    assert grouped(3, 2) == [[0, 1], [2, 2]]
    assert grouped(5, None) == [[0, 1], [2], [3, 4]]
