"""NumPy files that lie: every fault is one InputError."""

import io
import zipfile

import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.formats import arrays, npy, npz
from jaxdet.structs import Boxes


def _npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


BAD = [
    b"",
    b"\x93NUMPY",
    b"\x93NUMPY\x07\x00\x00\x00",
    _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,)}", bytes(80)),
    _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", bytes(80)),
    _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(80)),
    _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3,"),
    _npy("{'descr': '<f8', 'shape': 3}"),
    _npy("'''"),
    _npy("(" * 5000),
    _npy("{'descr': [('t', '<f8', (1 << 40,))], 'fortran_order': False, 'shape': (1,)}"),
    _npy("\x00\xff"),
]


@pytest.mark.parametrize("content", BAD)
def test_what_is_no_array_is_one_line(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("keys.npy", content)
    for load, name in ((arrays.load, "x.npy"), (arrays.load_all, "x.npz"), (arrays.load_all, "x.npy")):
        with pytest.raises(InputError, match=rf"{name}: .*expected boxes"):
            load(tmp_path / name, "boxes")


def test_what_numpy_writes_is_read(tmp_path):
    for array in (np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(3, 4)), np.zeros(0, npy.ROWS)):
        np.save(tmp_path / "x.npy", array)
        np.testing.assert_array_equal(arrays.load(tmp_path / "x.npy", "x"), array)
        np.savez_compressed(tmp_path / "x.npz", a=array)
        np.testing.assert_array_equal(arrays.load_all(tmp_path / "x.npz", "x")["a"], array)


def _table(**columns) -> np.ndarray:
    values = {name: np.ones(2) for name in ("t", "x", "y", "w", "h", "class_id")} | columns
    kinds = [(name, value.dtype, value.shape[1:]) for name, value in values.items()]
    table = np.zeros(2, kinds)
    for name, value in values.items():
        table[name] = value
    return table


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("t", np.array([1, np.nan])),
        ("t", np.array([1.5, 2])),
        ("t", np.array([1, 1e300])),
        ("class_id", np.array([0, -1])),
        ("class_id", np.array([0, 0.5])),
        ("class_id", np.array([0, 2**40])),
        ("x", np.array(["1", "2"])),
        ("x", np.ones((2, 2))),
        ("w", np.ones(2, complex)),
    ],
)
def test_columns_that_are_no_numbers_or_indices_are_refused(tmp_path, column, value):
    np.save(tmp_path / "a_bbox.npy", _table())
    assert len(npy.read(tmp_path / "a_bbox.npy").frames) == 1
    np.save(tmp_path / "a_bbox.npy", _table(**{column: value}))
    with pytest.raises(InputError, match=r"a_bbox\.npy: .*expected a table of boxes"):
        npy.read(tmp_path / "a_bbox.npy")


@pytest.mark.parametrize(
    "change",
    [
        {"counts": np.array([3, -1])},
        {"counts": np.array([0.5, 1.5])},
        {"labels": np.array([0, -2])},
        {"labels": np.array(["0", "1"])},
        {"boxes": np.ones((4, 2))},
        {"boxes": np.array([["1"] * 4] * 2)},
        {"scores": np.ones((2, 1))},
        {"sizes": np.ones(3)},
        {"frames": np.array([1.5, 2])},
        {"keys": np.ones((2, 2))},
        {"class_names": np.array([1, 2])},
        {"times_us": np.array([np.nan, 1])},
    ],
)
def test_archives_whose_numbers_are_none_are_refused(tmp_path, change):
    path = tmp_path / "x.npz"
    frames = [Boxes(np.ones((1, 4)), np.ones(1), np.zeros(1, np.int32), source=name) for name in "ab"]
    npz.write(path, frames)
    content = dict(np.load(path)) | change
    file = io.BytesIO()
    np.savez(file, **content)
    path.write_bytes(file.getvalue())
    with pytest.raises(InputError, match=r"x\.npz: .*expected"):
        npz.read(path)
