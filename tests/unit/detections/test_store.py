"""The detections file."""

import h5py
import numpy as np
import pytest

from jaxdet.detections import store
from jaxdet.errors import InputError
from jaxdet.structs import Boxes

XYXY = np.array([[1, 2, 30, 40], [5, 6, 7.5, 8.25]], np.float32)
SCORES, LABELS = np.array([0.9, 0.5], np.float32), np.array([0, 1], np.int32)


def _frame(rows=slice(None), size=(240, 304), **where):
    return Boxes(XYXY[rows], SCORES[rows], LABELS[rows], image_size=size, **where)


def _identity(key, group, index):
    if key == "name":
        return {"source": f"{group}/{('a', 'b', 'ü c')[index]}.jpg"}
    return {"source": group, "time_us" if key == "t_us" else "frame": 5_000 * (index + 1)}


@pytest.mark.parametrize("key", store.KEYS)
def test_what_is_appended_is_read(tmp_path, key):
    path = tmp_path / "a.h5"
    with store.create(path, ["car", "pedestrian"], key, {"model": "b3"}) as writer:
        writer.append(_frame(**_identity(key, "one", 0)))
        writer.append(_frame(slice(0, 1), **_identity(key, "two/x", 0)))
        writer.append(_frame(slice(0, 0), **_identity(key, "one", 1)))
        writer.append(_frame(slice(1, 2), None, **_identity(key, "one", 2)))
        writer.add_clip("nothing")
    with store.read(path) as reader:
        assert reader.names == ["nothing", "one", "two/x"]
        names = ("car", "pedestrian")
        assert (reader.key, reader.class_names, reader.metadata) == (key, names, {"model": "b3"})
        frames = reader.frames("one")
        for index, (boxes, rows) in enumerate(
            zip(frames, (slice(None), slice(0, 0), slice(1, 2)), strict=True)
        ):
            for found, expected in ((boxes.xyxy, XYXY), (boxes.scores, SCORES), (boxes.labels, LABELS)):
                np.testing.assert_array_equal(found, expected[rows])
            where = {"time_us": None, "frame": None} | _identity(key, "one", index)
            assert {name: getattr(boxes, name) for name in where} == where
            assert boxes.image_size == (None if index == 2 else (240, 304))
            assert boxes.class_names == names
        assert [len(boxes) for boxes in reader] == [2, 0, 1, 1]
        assert reader.frames("nothing") == []
        with pytest.raises(InputError, match="no detections of three"):
            reader.frames("three")


def test_long_streams_pass_through_the_buffer(tmp_path):
    with store.create(tmp_path / "a.h5", ["car"], "t_us") as writer:
        for step in range(5_000):
            writer.append(_frame(slice(0, step % 2), source="one", time_us=step))
            assert len(writer._frames) <= 2048
    with store.read(tmp_path / "a.h5") as reader:
        frames = reader.frames("one")
    assert [boxes.time_us for boxes in frames] == list(range(5_000))
    assert [len(boxes) for boxes in frames] == [step % 2 for step in range(5_000)]


def test_an_interrupted_file_does_not_appear(tmp_path):
    def interrupted():
        with store.create(tmp_path / "a.h5", ["car"], "t_us") as writer:
            writer.append(_frame(source="one", time_us=0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_bad_rows_and_files_are_named(tmp_path):
    with store.create(tmp_path / "a.h5", ["car"], "t_us") as writer:
        where = {"source": "one", "time_us": 0}
        with pytest.raises(InputError, match="not finite"):
            writer.append(Boxes(XYXY * np.nan, SCORES, LABELS, **where))
        with pytest.raises(InputError, match="2 boxes, 1 scores"):
            writer.append(Boxes(XYXY, SCORES[:1], LABELS, **where))
        with pytest.raises(InputError, match="no t_us, by which this file tells frames apart"):
            writer.append(_frame(source="one.jpg"))
    (tmp_path / "b.h5").write_bytes(b"no HDF5 at all")
    for name, message in (("b.h5", "not an HDF5 file"), ("c.h5", "no such file")):
        with pytest.raises(InputError, match=message), store.read(tmp_path / name):
            pass


def test_a_damaged_attribute_is_one_line(tmp_path, monkeypatch):
    with store.create(tmp_path / "x.h5", ["car"], "frame", {}) as writer:
        writer.append(_frame(source="a", frame=1))

    def damaged(*_):
        raise OSError("address of object past end of allocation")

    monkeypatch.setattr(h5py.AttributeManager, "get", damaged)
    with pytest.raises(InputError, match=r"x\.h5: address of object"), store.read(tmp_path / "x.h5"):
        pass
