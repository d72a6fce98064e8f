import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdet.data.images import batches as image_batches
from jaxdet.data.images import decoding, letterbox, sets
from jaxdet.errors import InputError
from jaxdet.structs import Boxes

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.roll(PICTURE, i, 0))
    return tmp_path


def test_channels_depth_and_alpha_become_three_bytes_a_pixel(tmp_path):
    grey = PICTURE[..., 0]
    files = {"grey": grey, "alpha": np.dstack([PICTURE, grey]), "deep": PICTURE.astype(np.uint16) * 256 + 7}
    for name, pixels in files.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    np.testing.assert_array_equal(decoding.read(tmp_path / "grey.png"), np.dstack([grey] * 3))
    np.testing.assert_array_equal(decoding.read(tmp_path / "alpha.png"), PICTURE)
    np.testing.assert_array_equal(decoding.read(tmp_path / "deep.png"), PICTURE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such image"),
        (b"", "empty file"),
        (b"not an image at all", "not an image"),
        ("half", "cut short"),
    ],
)
def test_unreadable_image_is_one_line(tmp_path, content, message):
    path = tmp_path / "x.jpg"
    if content == "half":
        whole = cv2.imencode(".jpg", PICTURE)[1].tobytes()
        content = whole[: len(whole) // 2]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        decoding.read(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_size_from_the_header_is_that_of_the_pixels(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    cv2.imwrite(str(path), PICTURE)
    assert decoding.size_of(path) == (40, 60)


@given(
    st.tuples(st.integers(8, 90), st.integers(8, 90)),
    st.lists(st.floats(0, 8), min_size=4, max_size=4),
    st.sampled_from([letterbox.fit_yolox, lambda i, s: letterbox.fit_yolov4(i, s, 64)]),
)
def test_boxes_return_to_where_they_came_from(size, corners, fit):
    _, placement = fit(np.zeros((*size, 3), np.uint8), (64, 96))
    box = np.array(corners)
    inside = box * placement.gain[1] + np.asarray(placement.pad * 2)  # one gain for both axes, as released
    np.testing.assert_allclose(letterbox.to_original(inside, placement), box, atol=1e-9)


def test_a_bad_image_is_counted_and_the_others_arrive(folder):
    (folder / "2.png").write_bytes(b"")
    plan = image_batches.fixed_plan(sets.from_folder(folder), 2, (32, 32))
    loader = image_batches.Loader(plan, 2, letterbox.fit_yolox, rgb=False)
    batches = list(loader)
    assert [item.name for b in batches for item in b.items] == ["0", "1", "3", "4"]
    assert {b.pixels.shape for b in batches} == {(2, 32, 32, 3)}
    assert loader.num_skipped == 1


def test_rgb_is_bgr_reversed(folder):
    plan = image_batches.fixed_plan(sets.from_folder(folder), 5, (32, 32))
    blue_first, red_first = (
        next(iter(image_batches.Loader(plan, 5, letterbox.fit_yolox, rgb=rgb))).pixels
        for rgb in (False, True)
    )
    np.testing.assert_array_equal(blue_first, red_first[..., ::-1])


def test_only_the_last_images_folder_is_replaced(tmp_path):
    assert sets.label_path(tmp_path / "images" / "a" / "images" / "x.jpg") == (
        tmp_path / "images" / "a" / "labels" / "x.txt"
    )


def test_coco_images_that_are_missing_are_named(folder):
    frames = [Boxes.none(source=name, image_id=i) for i, name in ((7, "1.png"), (8, "gone.png"), (9, ""))]
    items, missing = sets.from_coco(frames, folder)
    assert [(item.image_id, item.source) for item in items] == [(7, "1.png")]
    assert missing == ["gone.png", "image 9, which has no file name"]


def test_video_frames_and_a_video_cut_short(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (60, 40))
    for _ in range(12):
        writer.write(PICTURE)
    writer.release()
    video = sets.VideoFile(path)
    assert (len(list(video)), video.cut_short) == (12, False)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    video = sets.VideoFile(path)
    assert len(list(video)) < 12
    assert video.cut_short


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_grey_file_read_as_one_channel_is_each_of_its_three(tmp_path, suffix):
    path = tmp_path / f"grey.{suffix}"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8))
    grey, image = decoding.read(path, keep_grey=True), decoding.read(path)
    assert grey.shape == (20, 30)
    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], grey)
