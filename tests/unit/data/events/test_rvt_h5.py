import h5py
import hdf5plugin
import numpy as np
import pytest

from jaxdet.data.events.open import open_events
from jaxdet.data.events.streams import concatenate
from jaxdet.errors import InputError


def write(path, t, polarity, size=(720, 1280), **columns):
    with h5py.File(path, "w") as file:
        group = file.create_group("events")
        values = {
            "t": t,
            "x": np.arange(len(t), dtype="u2"),
            "y": np.arange(len(t), dtype="u2"),
            "p": polarity,
        }
        for name, value in (values | columns).items():
            group.create_dataset(name, data=value, chunks=(4,), **hdf5plugin.Blosc(cname="zstd"))
        if size is not None:
            group["height"], group["width"] = size


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("size", [(720, 1280), None])
def test_columns_of_a_blosc_file_in_order_of_time(tmp_path, signed, size):
    t, p = np.array([7, 9, 8, 20, 21], "i8"), np.array([1, 0, 1, 0, 0], "i2")
    write(tmp_path / "a_td.h5", t, p * 2 - 1 if signed else p, size)
    for chunk in (2, 100):
        stream = open_events(tmp_path / "a_td.h5", chunk)
        assert (stream.kind, stream.height, stream.width) == ("rvt_h5", *(size or (None, None)))
        events = concatenate(stream.ordered())
        assert list(zip(*events)) == [(7, 0, 0, 1), (8, 2, 2, 1), (9, 1, 1, 0), (20, 3, 3, 0), (21, 4, 4, 0)]


def test_columns_that_do_not_fit_are_one_line(tmp_path):
    write(tmp_path / "a.h5", np.arange(5), np.zeros(4, "i2"))
    with pytest.raises(InputError, match="expected equal"):
        open_events(tmp_path / "a.h5")
    write(tmp_path / "b.h5", np.arange(4), np.zeros(4, "i2"), x=np.zeros((4, 2)))
    with pytest.raises(InputError, match="events/x is not a column of numbers"):
        open_events(tmp_path / "b.h5")


def test_damaged_bytes_are_one_line(tmp_path):
    t = np.random.default_rng(0).integers(0, 1 << 60, 4000)
    write(tmp_path / "a.h5", np.sort(t), np.zeros(4000, "i2"))
    raw = bytearray((tmp_path / "a.h5").read_bytes())
    with h5py.File(tmp_path / "a.h5") as file:
        chunk = file["events/t"].id.get_chunk_info(0)
    raw[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    (tmp_path / "a.h5").write_bytes(raw)
    with pytest.raises(InputError, match="damaged"):
        concatenate(open_events(tmp_path / "a.h5"))
