"""Names of frames, and the clips and labelled images they belong to."""

import pytest

from jaxdet.errors import InputError
from jaxdet.formats import names
from jaxdet.structs import Boxes


def _sources(*sources):
    return [Boxes.none(source=source) for source in sources]


def test_clips_are_told_apart_up_to_the_last_number():
    """Under prefix matching clip_1_00011 would join clip_1_0001."""
    frames = _sources("20210901_clip_1_00011_0000", "20210901_clip_1_0001_0001", "20210901_clip_1_0001_0000")
    assert names.by_clip(frames) == {"20210901_clip_1_0001": [2, 1], "20210901_clip_1_00011": [0]}


def test_frames_of_a_clip_are_in_order_of_their_number():
    assert names.by_clip(_sources("a_10000.jpg", "a_9999.PNG", "a_0002")) == {"a": [2, 1, 0]}
    assert names.by_clip(_sources("b/10.jpg", "a/9.jpg", "b/9.jpg")) == {"a": [1], "b": [2, 0]}


def test_frames_of_videos_and_steps_belong_to_their_source():
    frames = [
        Boxes.none(source="v_1", frame=7),
        Boxes.none(source="v_1", frame=2),
        Boxes.none(source="r", time_us=5),
    ]
    assert names.by_clip(frames) == {"r": [2], "v_1": [1, 0]}
    assert [names.path_name(boxes) for boxes in frames] == ["v_1_0007", "v_1_0002", "r_0005"]


def test_names_keep_folders_and_dots():
    assert names.path_name(Boxes.none(source="a/b.c/x.y.JPG")) == "a/b.c/x.y"
    assert names.stem(Boxes.none(source="a/b.c/x.y")) == "x.y"
    assert names.file_name(Boxes.none(source="a/x.jpg")) == "a/x.jpg"
    assert names.path_name(Boxes.none(image_id=17)) == "17"


def test_a_frame_that_comes_twice_or_without_number_is_refused():
    with pytest.raises(InputError, match="clip a: frame 1 appears twice, as a_1 and a_0001"):
        names.by_clip(_sources("a_1", "a_0001"))
    with pytest.raises(InputError, match="frame 'dog'; expected <clip>_<frame number>"):
        names.by_clip(_sources("dog.jpg"))


def test_equal_names_in_two_folders_are_refused_where_folders_are_lost():
    names.check_stems(["a/1.jpg", "b/2.jpg"], "x.pkl")
    with pytest.raises(InputError, match=r"2 images are called 1 and x.pkl tells images apart by name only"):
        names.check_stems(["a/1.jpg", "b/1.jpg"], "x.pkl")


def test_images_are_found_by_path_then_by_a_name_of_one_image():
    index = names.index_of(["a/1.jpg", "b/1.jpg", "b/2.png"])
    assert [index(source) for source in ("a/1.jpg", "b/1", "b/1.png", "c/2.jpg", "2", "1", "3")] == [
        0, 1, 1, 2, 2, None, None
    ]  # fmt: skip
