"""HDF5 files that lead elsewhere."""

import os

import h5py
import numpy as np
import pytest

from jaxdet import hdf5
from jaxdet.detections import store
from jaxdet.errors import InputError
from jaxdet.structs import Boxes


@pytest.fixture
def detections(tmp_path):
    path = tmp_path / "a.h5"
    with store.create(path, ["car"], "t_us") as writer:
        boxes = np.array([[1, 2, 30, 40.0]]), np.array([0.5]), np.zeros(1, int)
        writer.append(Boxes(*boxes, source="one", time_us=5_000))
    return path


def external_link(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["boxes"] = np.ones((1, 4), np.float32)
    del file["one/boxes"]
    file["one/boxes"] = h5py.ExternalLink("other.h5", "/boxes")


def external_group(file, folder):
    file.copy("one", file, "two")
    with h5py.File(folder / "other.h5", "w") as other:
        file.copy("one", other)
    del file["two"]
    file["two"] = h5py.ExternalLink("other.h5", "/one")


def external_storage(file, folder):
    secret = folder / "secret"
    secret.write_bytes(np.full(4, 7, np.float32).tobytes())
    del file["one/boxes"]
    file["one"].create_dataset("boxes", (1, 4), np.float32, external=[(str(secret), 0, 16)])


def virtual(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["boxes"] = np.ones((1, 4), np.float32)
    layout = h5py.VirtualLayout((1, 4), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "boxes", (1, 4))
    del file["one/boxes"]
    file["one"].create_virtual_dataset("boxes", layout)


def soft_link(file, _):
    file["two"] = h5py.SoftLink("/one")


def dangling(file, _):
    file["one/loop"] = h5py.SoftLink("/one/loop")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (external_link, "'one/boxes' is a link to another file"),
        (external_group, "'two' is a link to another file"),
        (external_storage, "'one/boxes' keeps its data in another file"),
        (virtual, "'one/boxes' is a virtual dataset"),
        (soft_link, "'two' is a soft link"),
        (dangling, "'one/loop' is a soft link"),
    ],
)
def test_a_file_that_leads_elsewhere_is_refused_in_one_line(detections, tmp_path, monkeypatch, change, told):
    monkeypatch.chdir(tmp_path)
    with h5py.File(detections, "a") as file:
        change(file, tmp_path)
    with pytest.raises(InputError, match=told) as error, store.read(detections) as reader:
        reader.clip("one")
    assert str(error.value).isprintable()
    os.rename(detections, tmp_path / "moved.h5")  # it is closed again


def test_nested_groups_are_looked_into_and_names_are_printable(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/b/\x1b[2J"] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(InputError, match="link to another file") as error:
        hdf5.open_own(tmp_path / "a.h5", "events")
    assert str(error.value).isprintable()


def test_groups_that_hold_each_other_come_to_an_end(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/x"] = np.arange(3)
        file["a/b"] = file["a"]
        file["c"] = file["/"]
    with hdf5.open_own(tmp_path / "a.h5", "events") as file:
        assert file["a/b/x"][:].tolist() == [0, 1, 2]


def test_other_files_are_one_line(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for name, told in (("none.h5", "no such file; expected events"), ("a.h5", "not an HDF5 file")):
        with pytest.raises(InputError, match=told):
            hdf5.open_own(tmp_path / name, "events")
