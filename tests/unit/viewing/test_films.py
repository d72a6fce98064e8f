"""Predictions drawn over images and events."""

import cv2
import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.structs import Boxes
from jaxdet.viewing import films


def _boxes(source, **where):
    return Boxes(
        np.array([[5, 5, 20, 20.0]]), np.array([0.9]), np.array([0]), ("cat",), source=source, **where
    )


def test_pictures_of_a_folder_keep_the_folders_of_their_images(tmp_path):
    image = np.zeros((40, 60, 3), np.uint8)
    with films.of_images(tmp_path / "drawn", (), 5, 0.3) as take:
        for source in ("a/1.png", "b/1.png"):
            take(image, _boxes(source))
    for folder in "ab":
        assert cv2.imread(str(tmp_path / "drawn" / folder / "1.jpg")).max() > 100
    assert not image.any()


def test_a_film_of_images_of_two_sizes_is_refused(tmp_path):
    def mixed():
        with films.of_images(tmp_path / "x.avi", (), 5, 0.3) as take:
            take(np.zeros((40, 60, 3), np.uint8), _boxes("1.png"))
            take(np.zeros((60, 40, 3), np.uint8), _boxes("2.png"))

    with pytest.raises(InputError, match="images of different sizes"):
        mixed()
    assert list(tmp_path.iterdir()) == []


def test_a_recording_gives_a_picture_every_stride(tmp_path):
    events = [np.arange(3), np.arange(3), np.ones(3, int)]
    with films.of_events(tmp_path / "x.avi", (40, 60), ("cat",), 5_000, 2, 0.3) as take:
        for step in range(5):
            take(events, _boxes("r", time_us=5_000 * step))
    video = cv2.VideoCapture(str(tmp_path / "x.avi"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 2
    assert video.get(cv2.CAP_PROP_FPS) == 100  # real time: 2 steps of 5 ms a picture
    with (
        pytest.raises(InputError, match="every 0 steps"),
        films.of_events(tmp_path / "y.avi", (40, 60), (), 5_000, 0, 0.3),
    ):
        pass


@pytest.mark.parametrize("source", ["../x.png", "/x.png", "a\nb.png"])
def test_pictures_stay_in_their_folder(tmp_path, source):
    with (
        films.of_images(tmp_path / "drawn", (), 5, 0.3) as take,
        pytest.raises(InputError, match="name of an image"),
    ):
        take(np.zeros((40, 60, 3), np.uint8), _boxes(source))
    assert not any(tmp_path.iterdir())
