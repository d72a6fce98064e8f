"""A recording written in pieces."""

from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from recordings_data import chunk

from jaxdet.data.events import recording_writer, recordings
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError

INFO = {"width": 32, "height": 24, "duration_ms": 40, "label_interval_us": 50_000}


def append_all(path, events, cuts, duration_ms=40):
    with recording_writer.open_writer(path) as writer:
        bounds = [0, *sorted(cuts), len(events.t_us)]
        for low, high in pairwise(bounds):
            writer.append(events.take(slice(low, high)))
        writer.finish(np.zeros(2, recordings.LABEL_DTYPE), duration_ms, INFO)


@settings(max_examples=25, deadline=None)
@given(num=st.integers(0, 200), cuts=st.lists(st.integers(0, 200), max_size=4), seed=st.integers(0, 99))
def test_pieces_of_any_size_give_the_bytes_of_the_whole(tmp_path_factory, num, cuts, seed):
    folder = tmp_path_factory.mktemp("r")
    events = chunk(np.random.default_rng(seed), num, 40)
    append_all(folder / "a" / "rec", events, [min(cut, num) for cut in cuts])
    index = recordings.index(events.t_us, 40)
    labels = np.zeros(2, recordings.LABEL_DTYPE)
    recordings.write(folder / "b" / "rec", recordings.pack(events), index, labels, INFO)
    files = [p.relative_to(folder / "a") for p in sorted((folder / "a").rglob("*")) if p.is_file()]
    assert len(files) == 5
    for file in files:
        assert (folder / "a" / file).read_bytes() == (folder / "b" / file).read_bytes(), file


def test_what_is_not_finished_leaves_nothing(tmp_path):
    late = EventChunk(np.array([2**50]), *(np.zeros(1, np.int16) for _ in "xyp"))
    with pytest.raises(InputError), recording_writer.open_writer(tmp_path / "rec") as writer:
        writer.append(late)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("t_us", [1_600_000_000_000_000, 24 * 3_600_000_000])
def test_a_clock_that_jumps_takes_no_memory(tmp_path, t_us):
    events = EventChunk(np.array([0, t_us]), *(np.zeros(2, np.int16) for _ in "xyp"))
    with pytest.raises(InputError, match=r"hours after the first one, expected at most 24"):
        append_all(tmp_path / "rec", events, [])
