"""Videos come back with their frames, their rate and about their pixels."""

import cv2
import numpy as np
import pytest

from jaxdet.data.images import sets
from jaxdet.errors import InputError
from jaxdet.viewing import video_files


def _pictures(size, count=12):
    """Flat pictures that grow lighter, which no codec can spoil."""
    return [np.full((*size, 3), 20 * i + 10, np.uint8) for i in range(count)]


@pytest.mark.parametrize("package", [None, "av"])
@pytest.mark.parametrize("suffix", list(video_files.CODECS))
def test_frames_come_back(tmp_path, suffix, package, monkeypatch, caplog, capfd):
    if package is None:
        monkeypatch.setattr(video_files, "find_spec", lambda name: None)
    elif suffix != ".mp4":
        pytest.skip("H.264 lies in .mp4 only")
    else:
        pytest.importorskip("av")
    path, size = tmp_path / f"x{suffix}", (48, 66) if package is None else (47, 65)
    with caplog.at_level("INFO"):
        writer = video_files.open_writer(path, "film", 12.5, size, suffix)
    for picture in _pictures(size):
        writer.write(picture)
    writer.release()
    assert capfd.readouterr().err == ""  # no note of OpenCV on tags of WebM
    video = sets.VideoFile(path)
    assert video.frame_rate == pytest.approx(12.5)
    assert video.size == (48, 66)  # odd sides are made even for H.264
    means = [float(frame.mean()) for frame in video]
    np.testing.assert_allclose(means, [float(p.mean()) for p in _pictures(size)], atol=4)
    assert ("film: MPEG-4 part 2" in caplog.text) == (suffix == ".mp4" and package is None)
    codec = cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FOURCC)
    named = {".mp4": b"h264" if package else b"FMP4", ".webm": b"VP80", ".avi": b"MJPG"}[suffix]
    assert int(codec).to_bytes(4, "little") == named


def test_a_format_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(video_files.CODECS, ".avi", "\0\0\0\0")
    with pytest.raises(InputError, match=r"film\.avi: this OpenCV has no"):
        video_files.open_writer(tmp_path / "no" / "x.avi", "film.avi", 10, (48, 64), ".avi")
