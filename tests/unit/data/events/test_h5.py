"""HDF5 files of events: the layouts of RVT, DSEC and Metavision."""

import event_writers as writers
import h5py
import hdf5plugin
import numpy as np
import pytest

from jaxdet.data.events import open as opening
from jaxdet.data.events.streams import EventChunk, concatenate
from jaxdet.errors import InputError


def events(num=1000, width=640, height=480):
    rng = np.random.default_rng(3)
    return EventChunk(
        np.sort(rng.integers(0, 50_000, num)), *(rng.integers(0, n, num) for n in (width, height, 2))
    )


def write(path, e, kinds="u2 u2 i2 i8", **scalars):
    with h5py.File(path, "w") as file:
        for name, column, kind in zip("xypt", (e.x, e.y, e.p, e.t_us), kinds.split(), strict=True):
            file[f"events/{name}"] = np.asarray(column).astype(kind)
        for name, value in scalars.items():
            file[name.replace("__", "/")] = value


def assert_same(found, expected):
    for column, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(column, right)


@pytest.mark.parametrize("signed", [False, True])
def test_columns_as_rvt_and_etram_have_them(tmp_path, signed):
    e = events()
    stored = e._replace(p=2 * e.p - 1) if signed else e
    write(tmp_path / "a_td.dat", stored, events__width=640, events__height=np.array([480]))
    stream = opening.open_events(tmp_path / "a_td.dat")  # found by content, whatever its name
    assert (stream.kind, stream.width, stream.height) == ("h5", 640, 480)
    assert_same(concatenate(stream), e)


def test_a_file_without_a_size_has_none_and_what_no_sensor_has_lies_outside(tmp_path):
    e = events(3)
    write(tmp_path / "a", e._replace(x=np.array([1, 40_000, 2])))
    stream = opening.open_events(tmp_path / "a")
    assert (stream.width, stream.height) == (None, None)
    assert concatenate(stream).x.tolist() == [1, -1, 2]


def test_dsec_times_begin_at_their_offset(tmp_path):
    e = events()
    write(
        tmp_path / "events.h5", e, "u2 u2 u1 u4", t_offset=51_000_000_123, ms_to_idx=np.zeros(51, np.uint64)
    )
    stream = opening.open_events(tmp_path / "events.h5")
    assert (stream.kind, stream.width, stream.height) == ("dsec", 640, 480)
    assert_same(concatenate(stream), e._replace(t_us=e.t_us + 51_000_000_123))


@pytest.mark.parametrize("kind", ["yxp", "xp", "masked"])
def test_ecf_in_chunks_of_which_the_last_is_not_full(tmp_path, kind):
    e = events(1000, 1280, 720)
    parts = [e.take(slice(start, start + 300)) for start in (0, 300, 600)]
    last = e.take(np.r_[900:1000, np.full(200, 999)])  # HDF5 compresses whole chunks
    chunks = [writers.ecf_chunk(part, kind) for part in (*parts, last)]
    writers.write_ecf(tmp_path / "a.hdf5", chunks, 1000, 300)
    stream = opening.open_events(tmp_path / "a.hdf5")
    assert (stream.kind, stream.width, stream.height) == ("hdf5-ecf", 1280, 720)
    assert [len(chunk.t_us) for chunk in stream] == [300, 300, 300, 100]
    assert_same(concatenate(stream), e)


def test_rows_that_are_not_compressed_are_read_as_well(tmp_path):
    e = events(50)
    rows = np.zeros(50, [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    for name, column in zip("txyp", e, strict=True):
        rows[name] = column
    with h5py.File(tmp_path / "a", "w") as file:
        file["CD/events"], file.attrs["geometry"] = rows, np.bytes_(b"640x480")
    stream = opening.open_events(tmp_path / "a")
    assert (stream.width, stream.height) == (640, 480)
    assert_same(concatenate(stream), e)


def test_damaged_and_missing_chunks_are_one_line(tmp_path):
    e = events(600)
    whole = writers.ecf_chunk(e.take(slice(0, 300)), "yxp")
    writers.write_ecf(tmp_path / "a", [whole, whole[:100]], 600, 300)
    with pytest.raises(InputError, match="a: a chunk of ECF ends before its 300 events"):
        concatenate(opening.open_events(tmp_path / "a"))
    writers.write_ecf(tmp_path / "b", [whole], 600, 300)
    with pytest.raises(InputError, match="b: cannot be read"):
        concatenate(opening.open_events(tmp_path / "b"))
    writers.write_ecf(tmp_path / "c", [writers.ecf_chunk(e.take(slice(0, 9)), "xp")], 300, 300)
    with pytest.raises(InputError, match="9 events in the chunk of event 0, expected 300"):
        concatenate(opening.open_events(tmp_path / "c"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"boxes/a": np.zeros(3)}, "HDF5 with boxes, expected events"),
        ({"events/x": np.zeros(3), "events/ts": np.zeros(3)}, "HDF5 with ts, x, expected events"),
        ({f"events/{name}": np.zeros(3) for name in "xytp"}, "expected whole numbers"),
        (
            {f"events/{name}": np.zeros(i, int) for i, name in enumerate("xytp")},
            "expected four of one length",
        ),
        ({"CD/events": np.zeros(3)}, "expected rows of x, y, p, t"),
    ],
)
def test_other_layouts_say_what_was_found(tmp_path, content, said):
    with h5py.File(tmp_path / "a", "w") as file:
        for name, values in content.items():
            file[name] = values
    with pytest.raises(InputError, match=said):
        opening.open_events(tmp_path / "a")


def write_blosc(path, e):
    with h5py.File(path, "w") as file:
        for name, column in zip("txyp", e, strict=True):
            data = np.asarray(column)
            file.create_dataset(f"events/{name}", data=data, chunks=(100,), **hdf5plugin.Blosc(cname="zstd"))


@pytest.mark.parametrize("chunk", [7, 5000])
def test_blosc_and_times_out_of_order(tmp_path, chunk):
    e = events()
    late = e._replace(t_us=np.r_[e.t_us[:500], e.t_us[499] - 9, e.t_us[501:]])
    write_blosc(tmp_path / "a_td.h5", late)
    assert_same(concatenate(opening.open_events(tmp_path / "a_td.h5", chunk)), late)
    ordered = concatenate(opening.open_events(tmp_path / "a_td.h5", chunk).ordered())
    assert_same(ordered, late.take(np.argsort(late.t_us, kind="stable")))


def test_damaged_bytes_are_one_line(tmp_path):
    write_blosc(tmp_path / "a", events())
    raw = bytearray((tmp_path / "a").read_bytes())
    with h5py.File(tmp_path / "a") as file:
        part = file["events/t"].id.get_chunk_info(3)
    raw[part.byte_offset : part.byte_offset + part.size] = b"\xff" * part.size
    (tmp_path / "a").write_bytes(raw)
    with pytest.raises(InputError, match="a: cannot be read"):
        concatenate(opening.open_events(tmp_path / "a"))
