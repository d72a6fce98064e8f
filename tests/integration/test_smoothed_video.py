"""Boxes after Seq-NMS drawn on the video that they are of."""

import cv2
import numpy as np
import pytest

from jaxdet import seqnms
from jaxdet.data.images import sets
from jaxdet.detections import files
from jaxdet.structs import Boxes


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for _ in range(5):
        writer.write(np.full((64, 96, 3), 90, np.uint8))
    writer.release()
    return path


def _boxes(path, first, frames):
    found = [
        Boxes(
            np.array([[20.0, 20, 50, 50]]), np.array([score]), np.zeros(1, np.int32), source="film", frame=n
        )
        for n, score in enumerate(frames, first)
    ]
    files.write(path, found)


@pytest.mark.parametrize(("name", "first"), [("film.txt", 1), ("film.npz", 0)])
def test_smoothed_boxes_are_on_their_frames(film, tmp_path, name, first):
    detections, drawn = tmp_path / name, tmp_path / "drawn.mp4"
    _boxes(detections, first, (0.9, 0.2, 0.9))  # the last two frames have none
    flags = [f"--detections={detections}", f"--out={tmp_path / 'out.npz'}", "--min_score=0.5"]
    assert seqnms.main([*flags, f"--render={drawn}", f"--video={film}"]) == 0
    pictures = list(sets.VideoFile(drawn))
    coloured = [int(np.ptp(picture.astype(int), axis=2).max()) > 60 for picture in pictures]
    assert coloured == [True, True, True, False, False]  # the second one is smoothed to (0.9 + 0.2 + 0.9) / 3


def test_other_frames_than_those_of_the_video_are_named(film, tmp_path, capsys):
    _boxes(tmp_path / "film.npz", 3, (0.9, 0.9, 0.9))
    flags = [f"--detections={tmp_path / 'film.npz'}", f"--out={tmp_path / 'out.npz'}"]
    render = [f"--render={tmp_path / 'drawn.mp4'}", f"--video={film}"]
    assert seqnms.main([*flags, *render]) == 1
    assert "5 frames, but 1 later ones have boxes" in capsys.readouterr().err
    assert seqnms.main([*flags, *render, "--first_frame=4"]) == 1
    assert "frame 3 before the first, 4" in capsys.readouterr().err
    assert seqnms.main([*flags, f"--video={film}"]) == 1
    assert "--video without --render" in capsys.readouterr().err
