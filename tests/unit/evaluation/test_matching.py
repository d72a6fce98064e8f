"""Images are matched by path or id, never by a bare number, and by a bare name only if it is unique."""

import pytest

from jaxdet.errors import InputError
from jaxdet.evaluation import matching
from jaxdet.structs import Boxes


def _at(source="", image_id=None, **where):
    return Boxes.none(source=source, image_id=image_id, **where)


LABELS = [
    _at("a/1.jpg", 5),
    _at("b/1.jpg", 6),
    _at("b/2.jpg", 7),
    _at("c/COCO_val_0000009.jpg", 9),
    _at("", 8),
]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (_at("b/1.jpg"), 1),
        (_at("b/1.jpg", 5), 1),  # the path is whole: it counts first
        (_at(image_id=7), 2),
        (_at(image_id=8), 4),
        (_at("9.jpg", 9), 3),  # the number of the name is the id
        (_at("0000009.jpg", 9), 3),
        (_at("other.jpg", 7), None),  # a number that starts anew in another data set
        (_at("x/b/2.jpg"), 2),
        (_at("2"), 2),
        (_at("2.png"), 2),
        (_at("b/2.png"), 2),
        (_at("c/2.jpg"), None),  # of another camera
        (_at("x/c/2.jpg"), None),
        (_at("3.jpg"), None),
        (_at(image_id=10), None),
        (_at(), None),
    ],
)
def test_the_labelled_image_of_boxes(found, expected):
    assert matching.ImageIndex(LABELS).find(found) == expected


def test_a_name_that_two_images_have_is_refused():
    index = matching.ImageIndex(LABELS)
    for name in ("1", "1.jpg", "x/1.jpg"):
        with pytest.raises(InputError, match="several labelled images"):
            index.find(_at(name))
    twice = matching.ImageIndex([_at("x.jpg", 1), _at("x.jpg", 2)])
    assert twice.find(_at("x.jpg", 2)) == 1
    with pytest.raises(InputError, match="2 labelled images have this name"):
        twice.find(_at("x.jpg"))


def test_frames_of_videos_are_told_apart_by_number():
    labels = [_at("films/film", frame=i) for i in range(3)] + [_at("day_clip_1_0007")]
    index = matching.ImageIndex(labels)
    assert index.find(_at("films/film", frame=2)) == 2
    assert index.find(_at("film", frame=1)) == 1
    assert index.find(_at("other", frame=1)) is None
    assert index.find(_at("night/film", frame=1)) is None
    assert index.find(_at("day_clip_1", frame=7)) == 3
    assert index.find(_at("day_clip_1_0007.jpg")) == 3


def test_what_is_matched_by_name_alone_is_said(caplog):
    caplog.set_level("INFO")
    assert matching.positions(LABELS, [_at("b/2.jpg"), _at("a/1.jpg")]) == [2, 0]
    assert not caplog.text
    assert matching.positions(LABELS, [_at("2"), _at("q/b/1.jpg")]) == [2, 1]
    assert "1 by their names without folder and suffix, 1 by the end of their paths" in caplog.text


def test_files_that_do_not_belong_together_are_refused():
    with pytest.raises(InputError, match="both taken for the labelled image"):
        matching.positions(LABELS, [_at("b/2.jpg"), _at("2.png")])
    with pytest.raises(InputError, match=r"none of 1 images, such as .x\.jpg., is among the 5"):
        matching.positions(LABELS, [_at("x.jpg")])
    assert matching.positions(LABELS, []) == []
