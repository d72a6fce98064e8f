"""Boxes of the recordings of a split."""

import numpy as np
import pytest

from jaxdet.detections import files, recordings
from jaxdet.errors import InputError
from jaxdet.structs import Boxes


def _boxes(source, time_us):
    return Boxes(
        np.ones((1, 4), np.float32),
        np.ones(1, np.float32),
        np.zeros(1, np.int32),
        source=source,
        time_us=time_us,
    )


def test_a_recording_is_written_when_its_last_step_is_taken(tmp_path):
    def interrupted():
        with recordings.writer(tmp_path, [("a", 10), ("b", 10)], "all.h5", ["car"], {}) as take:
            for source, time_us in (("a", 5), ("b", 5), ("a", 10)):
                take(_boxes(source, time_us))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["a_td.npy"]
    assert [boxes.time_us for boxes in files.read(tmp_path / "a_td.npy").frames] == [5, 10]


def test_a_split_is_a_file_each_and_one_of_all(tmp_path):
    with recordings.writer(
        tmp_path, [("a", 10), ("b", 10), ("c", 10)], "all.h5", ["car"], {"model": "b3"}
    ) as take:
        for source in ("b", "a"):
            for time_us in (5, 10):
                take(_boxes(source, time_us))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_td.npy", "all.h5", "b_td.npy"]
    found = files.read(tmp_path / "all.h5")
    assert [(boxes.source, boxes.time_us) for boxes in found.frames] == [
        ("a", 5),
        ("a", 10),
        ("b", 5),
        ("b", 10),
    ]
    assert found.metadata == {"model": "b3"}


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "..", "a/b", "a\nb", "a\0b", None])
def test_a_name_from_info_json_leads_nowhere_else(tmp_path, name):
    opened = recordings.writer(tmp_path / "sub" / "out", [("a", 5), (name, 5)], "all.h5", ["car"], {})
    with pytest.raises(InputError, match="expected a plain file name") as error, opened:
        pytest.fail("the work began")
    assert str(error.value).isprintable()
    assert not any(tmp_path.iterdir())


def test_recordings_of_one_name_do_not_run_together(tmp_path):
    opened = recordings.writer(tmp_path / "out", [("a", 5), ("b", 5), ("a", 5)], "all.h5", ["car"], {})
    with pytest.raises(InputError, match="2 recordings are called a"), opened:
        pytest.fail("the work began")
    assert not any(tmp_path.iterdir())
