"""Boxes as arrays."""

import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.formats import npz


def _arrays(**other):
    arrays = {"keys": ["a_1", "a_2"], "counts": [1, 1], "boxes": np.ones((2, 4))}
    return {**arrays, "scores": [0.5, 0.25], "labels": [0, 3], **other}


def test_files_of_the_required_arrays_alone_are_read(tmp_path):
    np.savez(tmp_path / "x.npz", **_arrays())
    found = npz.read(tmp_path / "x.npz")
    assert [(boxes.source, boxes.frame, boxes.time_us) for boxes in found.frames] == [
        ("a_1", None, None),
        ("a_2", None, None),
    ]
    assert found.frames[1].labels.tolist() == [3]
    assert found.class_names == ()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"keys": ["a_1", "a_1"]}, "a frame appears twice"),
        ({"counts": [1, 2]}, "disagree in length"),
        ({"sizes": np.ones((1, 2), int)}, "disagree in length"),
        ({"keys": np.array([{}, {}], object)}, "expected arrays"),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(tmp_path, other, message):
    np.savez(tmp_path / "x.npz", **_arrays(**other))
    with pytest.raises(InputError, match=message):
        npz.read(tmp_path / "x.npz")


def test_a_missing_array_is_named(tmp_path):
    arrays = _arrays()
    del arrays["scores"]
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match="scores"):
        npz.read(tmp_path / "x.npz")


@pytest.mark.parametrize("version", [2, 0, "1", [1, 1], 1.5])
def test_another_version_of_the_format_is_refused(tmp_path, version):
    np.savez(tmp_path / "x.npz", **_arrays(format_version=version))
    with pytest.raises(InputError, match=r"x.npz: format_version"):
        npz.read(tmp_path / "x.npz")
