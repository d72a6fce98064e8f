import os
import pickle

import numpy as np
import pytest

from jaxdet.data.datasets import gen1_metadata
from jaxdet.data.events import recordings
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError


@pytest.fixture
def recording(tmp_path):
    t_us = np.array([0, 999, 3_000, 3_001, 59_000_500])
    zeros = np.zeros(len(t_us))
    events = EventChunk(t_us, zeros.astype(np.int16), zeros.astype(np.int16), zeros.astype(np.int8))
    recordings.write(
        tmp_path / "train" / "a",
        recordings.pack(events),
        recordings.index(t_us, 60_000),
        np.zeros(0, recordings.LABEL_DTYPE),
        {"width": 304, "height": 240, "duration_ms": 60_000, "label_interval_us": 250_000},
    )
    return recordings.open_recording(tmp_path / "train" / "a")


def test_index_of_the_released_scripts(recording):
    first, count = gen1_metadata.meta(recording)
    assert first[:6].tolist() == [0, 2, 2, 2, 4, 4], "an empty millisecond points at the next full one"
    assert first[59_000:59_003].tolist() == [4, 0, 0], "and at 0 after the last event"
    assert count[:5].tolist() == [2, 0, 0, 2, 0]
    assert len(first) == len(count) == 60_000


@pytest.mark.parametrize("protocol", range(2, 6))
def test_meta_of_any_protocol(tmp_path, protocol):
    table = np.arange(10.0).reshape(5, 2)
    pair = (table[:, 0].astype(np.int64), table[:, 1].astype(np.int64))
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"a_td.npy": pair}, protocol))
    found = gen1_metadata.read_meta(tmp_path / "meta.pkl")
    for a, e in zip(found["a_td.npy"], pair, strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_array_equal(a, e)


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "thing",
    [
        Hostile(os.system, "touch {marker}"),
        Hostile(eval, "open({marker!r}, 'w')"),
        Hostile(np.load, "{marker}"),
        {"a_td.npy": Hostile(getattr, "", "join")},
        {"a_td.npy": (np.array([os.system], object), 1)},
    ],
)
def test_a_hostile_pickle_runs_nothing(tmp_path, thing):
    marker = tmp_path / "marker"
    if isinstance(thing, Hostile):
        thing.call = (thing.call[0], tuple(a.format(marker=str(marker)) for a in thing.call[1]))
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(thing))
    with pytest.raises(InputError, match="expected a pickled dict"):
        gen1_metadata.read_meta(tmp_path / "meta.pkl")
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"hello", pickle.dumps({"a": 5}), pickle.dumps([1])])
def test_a_broken_pickle_is_an_input_error(tmp_path, content):
    (tmp_path / "meta.pkl").write_bytes(content)
    with pytest.raises(InputError, match="expected a pickled dict"):
        gen1_metadata.read_meta(tmp_path / "meta.pkl")


def test_comparison_names_every_difference(tmp_path, recording):
    folder = tmp_path / "list"
    folder.mkdir()
    assert gen1_metadata.compare([recording], folder) == []
    (folder / "meta.pkl").write_bytes(pickle.dumps({"a_td.npy": gen1_metadata.meta(recording)}))
    (folder / "gt_interval.csv").write_text("name,interval\na_bbox.npy,250000")
    assert gen1_metadata.compare([recording], folder) == []

    first, count = gen1_metadata.meta(recording)
    count[7] += 1
    (folder / "meta.pkl").write_bytes(pickle.dumps({"a_td.npy": (first, count), "b_td.npy": (first, count)}))
    (folder / "gt_interval.csv").write_text("name,interval\na_bbox.npy,500000\n")
    assert gen1_metadata.compare([recording], folder) == [
        "a: millisecond index differs from the released meta.pkl",
        "a: label interval 250000 us, gt_interval.csv says 500000",
        "b_td.npy: in the released meta.pkl, not among the prepared recordings",
    ]


@pytest.mark.parametrize(
    "text", ["", "a,b\n", "name,interval\na_bbox.npy\n", "name,interval\na,b\n", "name,interval\na,inf\n"]
)
def test_broken_intervals_are_an_input_error(tmp_path, text):
    (tmp_path / "gt_interval.csv").write_text(text)
    with pytest.raises(InputError, match="expected a header"):
        gen1_metadata.read_intervals(tmp_path / "gt_interval.csv")
