import json
import pickle
import shutil

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from jaxdet import folders
from jaxdet.data.events import dat, labels, recordings
from jaxdet.data.events.streams import EventChunk, concatenate
from jaxdet.errors import InputError


def make_events(n, duration_ms, seed=0, width=304, height=240):
    rng = np.random.default_rng(seed)
    return EventChunk(
        np.sort(rng.integers(0, duration_ms * 1000, n)),
        rng.integers(0, width, n).astype(np.int16),
        rng.integers(0, height, n).astype(np.int16),
        rng.integers(0, 2, n).astype(np.int8),
    )


def make_labels(n=0):
    return np.zeros(n, recordings.LABEL_DTYPE)


def store(path, events, duration_ms, boxes=None, width=304, height=240):
    recordings.write(
        path,
        recordings.pack(events),
        recordings.index(events.t_us, duration_ms),
        make_labels() if boxes is None else boxes,
        {"width": width, "height": height, "duration_ms": duration_ms, "label_interval_us": 250_000},
    )
    return recordings.open_recording(path)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(0, 300), duration=st.integers(1, 40), start=st.integers(-5, 45), length=st.integers(0, 50)
)
def test_events_of_any_window_are_those_of_its_milliseconds(tmp_path_factory, n, duration, start, length):
    events = make_events(n, duration, n, width=2048, height=1024)
    recording = store(tmp_path_factory.mktemp("r") / "a", events, duration)
    stop = start + length
    expected = events.take((events.t_us >= start * 1000) & (events.t_us < stop * 1000))
    for a, e in zip(recording.events(start, stop), expected, strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_array_equal(a, e)
    assert recording.ms_start[0] == 0
    assert recording.ms_start[-1] == recording.num_events == n


@pytest.mark.parametrize(
    ("column", "row", "told"),
    [(2048, 0, "column 2048, .* 0 to 2047"), (0, 1024, "row 1024, .* 0 to 1023"), (-1, 0, "column -1")],
)
def test_an_event_that_the_bits_cannot_number_is_refused(column, row, told):
    at = EventChunk(
        np.zeros(2, np.int64), *(np.array([0, v], np.int16) for v in (column, row)), np.ones(2, np.int8)
    )
    with pytest.raises(InputError, match=told):
        recordings.pack(at)


def test_a_sensor_that_the_bits_cannot_number_is_refused_by_name():
    recordings.check_size("a.dat", 2048, 1024)
    for width, height in ((2049, 1024), (2048, 1025), (0, 240)):
        with pytest.raises(InputError, match=f"a.dat: a sensor of {width} x {height}"):
            recordings.check_size("a.dat", width, height)


def test_a_stream_holds_all_events(tmp_path):
    events = make_events(1000, 333)
    store(tmp_path / "a", events, 333)
    stream = recordings.open_events(tmp_path / "a")
    assert (stream.kind, stream.width, stream.height) == ("prepared", 304, 240)
    for a, e in zip(concatenate(stream.ordered()), events, strict=True):
        np.testing.assert_array_equal(a, e)


def test_stream_of_a_file(tmp_path):
    events = make_events(100, 10)
    dat.write_dat(tmp_path / "a.dat", events)
    np.testing.assert_array_equal(concatenate(recordings.open_events(tmp_path / "a.dat")).t_us, events.t_us)


def test_an_event_at_the_end_is_refused():
    assert recordings.index(np.array([9_999]), 10)[-1] == 1
    with pytest.raises(InputError, match=r"1 of 2 events at or after 0.01 s.*--duration_s=1"):
        recordings.index(np.array([5, 10_000]), 10)


def test_a_recording_travels_to_another_process(tmp_path):
    recording = store(tmp_path / "a", make_events(50, 5), 5)
    recording.events(0, 5)
    again = pickle.loads(pickle.dumps(recording))
    assert again.name == "a"
    np.testing.assert_array_equal(again.events(1, 3).t_us, recording.events(1, 3).t_us)


def test_find_lists_whole_recordings_only(tmp_path):
    for name in ("b", "a"):
        store(tmp_path / "train" / name, make_events(5, 5), 5)
    shutil.copytree(tmp_path / "train" / "a", tmp_path / "train" / ".c.partial")
    (tmp_path / "train" / "d").mkdir()
    assert [p.name for p in recordings.find(tmp_path, "train")] == ["a", "b"]
    with pytest.raises(InputError, match="no prepared recordings"):
        recordings.find(tmp_path, "val")
    with pytest.raises(InputError, match="not a prepared recording"):
        recordings.open_recording(tmp_path / "train" / "d")


def test_a_failed_write_leaves_the_old_recording(tmp_path, monkeypatch):
    recording = store(tmp_path / "a", make_events(5, 5), 5)
    before = recording.info["files"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recordings, "save_array", full)
    with pytest.raises(OSError, match="No space"):
        store(tmp_path / "a", make_events(7, 5), 5)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert recordings.open_recording(tmp_path / "a").info["files"] == before


@pytest.mark.parametrize("name", ["../../x", "/x", "", "..", "a\nb", 7])
def test_a_name_in_info_json_that_is_no_file_name_is_one_line(tmp_path, name):
    store(tmp_path / "a", make_events(5, 5), 5)
    info = json.loads((tmp_path / "a" / "info.json").read_text())
    (tmp_path / "a" / "info.json").write_text(json.dumps({**info, "name": name}))
    with pytest.raises(InputError, match=r"info\.json: name .* expected a plain file name") as error:
        recordings.open_recording(tmp_path / "a")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("marked", [True, False])
def test_a_recording_is_replaced_unless_a_file_of_the_user_lies_in_it(tmp_path, marked):
    store(tmp_path / "a", make_events(5, 5), 5)
    if not marked:  # as version 0.1.0 left it
        (tmp_path / "a" / folders.MARKER).unlink()
    (tmp_path / "a" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="made here"):
        store(tmp_path / "a", make_events(7, 5), 5)
    assert (tmp_path / "a" / "notes.txt").read_text() == "mine"
    assert recordings.open_recording(tmp_path / "a").num_events == 5
    (tmp_path / "a" / "notes.txt").unlink()
    assert store(tmp_path / "a", make_events(7, 5), 5).num_events == 7
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_arrays_of_the_user_are_not_taken_for_a_recording(tmp_path):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "events.npy", np.arange(3))
    (tmp_path / "a" / "info.json").write_text("{}")
    with pytest.raises(InputError, match="was not made here as recording"):
        store(tmp_path / "a", make_events(5, 5), 5)
    assert np.load(tmp_path / "a" / "events.npy").tolist() == [0, 1, 2]


def test_check_finds_missing_short_and_changed_files(tmp_path):
    path = tmp_path / "a"
    store(path, make_events(500, 5), 5)
    assert recordings.check(path, full=True) is None
    data = bytearray((path / "events.npy").read_bytes())
    data[-1] ^= 1
    (path / "events.npy").write_bytes(data)
    assert recordings.check(path, full=False) is None
    assert "checksum" in recordings.check(path, full=True)
    (path / "events.npy").write_bytes(data[:-4])
    assert "size" in recordings.check(path, full=False)
    (path / "events.npy").unlink()
    assert "missing" in recordings.check(path, full=False)


def boxes_of(rows):
    boxes = np.zeros(len(rows), dat.BOX_DTYPE)
    for name, values in zip(("t", "x", "y", "w", "h"), zip(*rows)):
        boxes[name] = values
    return boxes


def test_invalid_labels():
    rows = [
        (0, 10, 10, 20, 20, False),
        (0, -5, -5, 20, 20, False),  # partly outside
        (0, 304, 10, 20, 20, True),  # begins where the sensor ends
        (0, -30, 10, 20, 20, True),
        (0, 10, 240, 20, 20, True),
        (0, 10, 10, 0, 20, True),
        (0, 10, 10, 20, -1, True),
        (0, 0, 10, 304, 20, True),  # as wide as the sensor
        (0, -5, 10, 400, 20, True),
        (0, 10, -1, 20, 242, True),
        (0, 1, 1, 303, 239, False),
        (0, float("nan"), 1, 3, 3, True),
    ]
    found = labels.from_boxes(boxes_of([row[:5] for row in rows]), 304, 240)
    assert found["invalid"].tolist() == [row[5] for row in rows]
    assert found["x"][1] == -5, "coordinates stay unclipped"


def test_labels_come_in_order_of_time():
    boxes = boxes_of([(20, 1, 1, 9, 9), (10, 2, 1, 9, 9), (20, 3, 1, 9, 9)])
    found = labels.from_boxes(boxes, 304, 240)
    assert found["x"].tolist() == [2, 1, 3]
    assert labels.suspicious(boxes, found, 60_000) == {"out of order": 1}


@pytest.mark.parametrize(("tracks", "twice"), [((0, 0, 0, 0), 1), ((7, 7, 8, 8), 2), ((1, 2, 3, 4), 0)])
def test_an_object_is_twice_at_one_time_by_its_track_or_else_its_box(tracks, twice):
    boxes = boxes_of([(10, 1, 1, 9, 9), (10, 2, 1, 9, 9), (20, 3, 1, 9, 9), (20, 3, 1, 9, 9)])
    boxes["track_id"] = tracks
    odd = labels.suspicious(boxes, labels.from_boxes(boxes, 304, 240), 60_000)
    assert odd == ({"twice at one time": twice} if twice else {})


@pytest.mark.parametrize(
    ("times", "interval"),
    [([], 1_000_000), ([5], 1_000_000), ([0, 0, 4, 9], 4), ([0, 3_000_000], 1_000_000), ([9, 2, 5], 3)],
)
def test_label_interval(times, interval):
    assert labels.interval_us(boxes_of([(t, 0, 0, 9, 9) for t in times])) == interval


@pytest.mark.parametrize(
    ("index", "told"),
    [
        (np.arange(9, dtype=np.int64), "not int64"),
        (np.zeros((5, 1), np.int64), "not int64"),
        (np.arange(5, dtype=np.float64), "not int64"),
        (np.array([0, 3, 2, 3, 3]), "not rising"),
        (np.array([-1, 0, 0, 0, 0]), "not rising"),
        (np.array([0, 1, 2, 3, 1 << 40]), "not rising"),
    ],
)
def test_an_index_that_does_not_fit_the_recording_is_one_line(tmp_path, index, told):
    recording = store(tmp_path / "a", make_events(3, 4), 4)
    np.save(recording.path / "ms_start.npy", index)
    with pytest.raises(InputError, match=f"ms_start.npy: .*{told}.*prepare it again"):
        recording.events(0, 4)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00\x09\x00{'descr':", b"PK\x03\x04"])
def test_a_damaged_header_of_events_is_one_line(tmp_path, content):
    recording = store(tmp_path / "a", make_events(3, 4), 4)
    (recording.path / "events.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"events.npy: .*prepare it again"):
        recording.events(0, 4)


def test_events_of_another_type_are_one_line(tmp_path):
    recording = store(tmp_path / "a", make_events(3, 4), 4)
    np.save(recording.path / "events.npy", np.zeros(3, np.float32))
    with pytest.raises(InputError, match="not a row of uint32"):
        recording.events(0, 4)


def test_a_recording_of_a_newer_format_is_refused_by_name(tmp_path):
    recording = store(tmp_path / "a", make_events(3, 4), 4)
    info = json.loads((recording.path / "info.json").read_text())
    assert info["format_version"] == 1
    (recording.path / "info.json").write_text(json.dumps(info | {"format_version": 2}))
    with pytest.raises(InputError, match=r"info.json: format_version 2, up to 1 is known; update jaxdet"):
        recordings.open_recording(recording.path)
    del info["format_version"]
    (recording.path / "info.json").write_text(json.dumps(info))
    assert recordings.open_recording(recording.path).num_events == 3
