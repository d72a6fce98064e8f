"""Folders, lists and videos as people have them; all inputs are made here."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from jaxdet.data.images import batches, letterbox, sets
from jaxdet.errors import InputError
from jaxdet.structs import ReadReport

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def _write(path, suffix=".png"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(suffix, PICTURE)[1].tobytes())
    return path


def test_every_file_of_a_folder_is_an_image_or_is_counted(tmp_path):
    other = tmp_path / "elsewhere"
    folder = tmp_path / "in"
    _write(folder / "a.JPG", ".jpg")
    _write(folder / "b.webp", ".webp")
    _write(folder / "c.jfif", ".jpg")
    _write(folder / "frame_0001.thermal")  # an image by its first bytes
    _write(folder / "sub" / "d.png")
    _write(other / "e.png")
    (folder / "link").symlink_to(other)
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "._a.JPG").write_bytes(bytes(100))  # a note of macOS
    for name in ("README", "a.txt", "clip.MTS", "g.heic"):
        (folder / name).write_bytes(b"text")
    report = ReadReport()
    found = [item.source for item in sets.from_folder(folder, report)]
    assert found == ["a.JPG", "b.webp", "c.jfif", "frame_0001.thermal", "link/e.png", "sub/d.png"]
    assert report.num_lost == 2
    assert "clip.MTS" in report.line()
    assert "g.heic" in report.line()
    assert report.notes == {
        "hidden files, which were passed over": 1,
        "links to folders that were entered already": 1,
    }


@pytest.mark.parametrize("place", [".", "lists", "lists/deep"])
def test_a_list_is_relative_to_its_folder_the_one_above_or_the_working_folder(tmp_path, monkeypatch, place):
    _write(tmp_path / "images" / "a.png")
    file = tmp_path / place / "train.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\xef\xbb\xbf./images/a.png\r\n\r\nimages/b.png\nimages/b.png\n")
    monkeypatch.chdir(tmp_path)
    report = ReadReport()
    found = sets.from_list(file, report)
    assert [item.path.resolve() for item in found] == [
        tmp_path / "images" / name for name in ("a.png", "b.png")
    ]
    assert sets.line_of(file, found[1].path).endswith("train.txt:3")
    assert report.notes["lines of a list that name an image again"] == 1
    assert ("relative to" in report.line()) == (place != ".")


def _video(path, fourcc, count=12):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), 10, (60, 40))
    for _ in range(count):
        writer.write(PICTURE)
    writer.release()
    return path


@pytest.mark.parametrize("name", ["x.M4V", "x.3gp", "x.recording"])
def test_a_video_is_told_by_suffix_or_content(tmp_path, name):
    path = _video(tmp_path / "x.mp4", "mp4v").rename(tmp_path / name)
    assert sets.is_video(path)
    video = sets.VideoFile(path)
    assert (video.size, len(list(video)), video.cut_short) == ((40, 60), 12, False)


def test_a_count_that_is_too_high_condemns_no_video(tmp_path):
    path = _video(tmp_path / "x.avi", "MJPG")
    data = bytearray(path.read_bytes())
    for at in (data.find(b"avih") + 8 + 16, data.find(b"strh") + 8 + 32):  # total frames, length
        data[at : at + 4] = (500).to_bytes(4, "little")
    path.write_bytes(data)
    video = sets.VideoFile(path)
    assert (len(list(video)), video.cut_short) == (12, False)


def test_a_video_of_variable_rate_has_each_of_its_frames_once(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for level, time_ms in enumerate((0, 100, 130, 900, 5000, 5040)):
            frame = av.VideoFrame.from_ndarray(
                np.full((48, 64, 3), 40 * level + 10, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    means = [frame.mean() for frame in sets.VideoFile(path)]
    np.testing.assert_allclose(means, [10, 50, 90, 130, 170, 210], atol=6)


def test_a_file_without_a_frame_is_one_line(tmp_path):
    for name, content in (("x.mp4", b"text"), ("y.avi", b""), ("z.mkv", bytes(5000))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="no frame"):
            sets.VideoFile(tmp_path / name)
    (tmp_path / "x.bin").write_bytes(bytes(100))
    assert not sets.is_video(tmp_path / "x.bin")
    with pytest.raises(InputError, match="expected an image"):
        sets.open_input(tmp_path / "x.bin")


@pytest.mark.parametrize("size", [(1, 600), (3, 2000), (2000, 1)])
@pytest.mark.parametrize("fit", [letterbox.fit_yolox, lambda i, s: letterbox.fit_yolov4(i, s, 64)])
def test_images_of_extreme_shape_keep_a_pixel(tmp_path, size, fit):
    cv2.imwrite(str(tmp_path / "x.png"), np.full((*size, 3), 255, np.uint8))
    plan = batches.fixed_plan(sets.from_folder(tmp_path), 1, (64, 64))
    (batch,) = batches.Loader(plan, 1, fit, rgb=False)
    assert batch.pixels.shape == (1, 64, 64, 3)
    assert batch.placements[0].size == size
    assert (batch.pixels > 200).any()


def test_a_loader_says_how_it_read_deep_images(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), (PICTURE[..., 0] + np.uint16(7000)))
    report = ReadReport()
    plan = batches.fixed_plan(sets.from_folder(tmp_path), 2, (32, 32))
    assert len(list(batches.Loader(plan, 2, letterbox.fit_yolox, rgb=False, report=report))) == 2
    assert sum(report.notes.values()) == 3


def test_a_video_can_be_read_more_than_once(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (60, 40))
    for level in (10, 90, 200):
        writer.write(np.full((40, 60, 3), level, np.uint8))
    writer.release()
    video = sets.VideoFile(tmp_path / "a.avi")
    passes = [[round(float(frame.mean())) // 10 for frame in video] for _ in range(2)]
    assert passes[0] == passes[1]
    assert len(passes[0]) == 3
