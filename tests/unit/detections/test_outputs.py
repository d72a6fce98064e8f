"""Where the boxes of recordings and images go."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxdet.data.images.sets import ImageItem
from jaxdet.detections import foreign, image_outputs, outputs, store
from jaxdet.errors import InputError
from jaxdet.inference.events import Frame

ONE_BOX = (np.array([[1, 2, 3, 4]], np.float32), np.array([0.5], np.float32), np.array([0]))


def _split(folder, *names):
    recordings = [SimpleNamespace(name=name, duration_ms=5, path=Path("r")) for name in names]
    with outputs.split(folder, recordings, (24, 32), ["car"], {}, 5_000, "detections.h5") as take:
        for i in range(len(names)):
            take(Frame(i, 5_000, *ONE_BOX, ()))


def test_a_split_has_a_file_for_each_recording(tmp_path):
    _split(tmp_path / "out", "a", "b")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a_td.npy", "b_td.npy", "detections.h5"]


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "..", "a/b", "a\nb", "a\0b", None])
def test_a_name_from_info_json_leads_nowhere_else(tmp_path, name):
    with pytest.raises(InputError, match="expected a plain file name") as error:
        _split(tmp_path / "sub" / "out", "a", name)
    assert str(error.value).isprintable()
    assert not any(tmp_path.iterdir())


def test_recordings_of_one_name_do_not_run_together(tmp_path):
    with pytest.raises(InputError, match="2 recordings are called a"):
        _split(tmp_path / "out", "a", "b", "a")


@pytest.mark.parametrize("key", ["../x", "..", "/x", "a/b.jpg", "a\nb"])
def test_yolo_text_of_a_frame_stays_in_its_folder(tmp_path, key):
    clip = store.clip([(key, (32, 24), *ONE_BOX)])
    with pytest.raises(InputError, match="key of a frame"):
        foreign.write_yolo_text(tmp_path / "sub" / "out", clip)
    assert not any(tmp_path.iterdir())


def test_images_are_asked_for_their_names_before_any_is_predicted(tmp_path):
    items = [ImageItem(tmp_path / name, name, i, None) for i, name in enumerate(("a", "a\x1b[2J"))]
    with pytest.raises(InputError, match="name of an image") as error:
        image_outputs.check_names(items)
    assert str(error.value).isprintable()
