"""MOT challenge text."""

import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.formats import mot
from jaxdet.structs import Boxes


def test_lines_of_other_tools_are_read(tmp_path):
    path = tmp_path / "seq.txt"
    path.write_text("2,-1,1.5,2,3,4.25,0.5,-1,-1,-1\n\n1,7,10,20,30,40,1\n2,-1,5,6,7,8,0.25,2\n")
    found = mot.read(path)
    assert [(boxes.source, boxes.frame) for boxes in found.frames] == [("seq", 2), ("seq", 1)]
    assert found.frames[0].xyxy.tolist() == [[1.5, 2, 4.5, 6.25], [5, 6, 12, 14]]
    assert found.frames[0].scores.tolist() == [0.5, 0.25]
    assert found.frames[0].labels.tolist() == [0, 2]


@pytest.mark.parametrize(
    "line",
    [
        "1,2,3",
        "1,-1,1,2,3,four,1",
        "1.5,-1,1,2,3,4,1",
        "1,-1,1,2,3,4,1,0.5,2",
        "a b c",
        "nan,-1,1,1,5,5,0.9",
        "1,-1,1,1,5,5,0.9,inf,-1,-1",
        "1,-1,1,1,-5,5,0.9",
        "-1,-1,1,2,3,4,1",
        "1e300,-1,1,2,3,4,1",
        "1,-1,1,2,3,4,1,1e10",
    ],
)
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "seq.txt"
    path.write_text(f"1,-1,1,2,3,4,1\n{line}\n")
    with pytest.raises(InputError, match=r"seq.txt:2: .*expected"):
        mot.read(path)


def test_a_byte_order_mark_is_no_part_of_a_line_and_other_encodings_are_one_line(tmp_path):
    path = tmp_path / "seq.txt"
    path.write_bytes(b"\xef\xbb\xbf1,-1,1,2,3,4,1\r\n")
    assert mot.read(path).frames[0].frame == 1
    path.write_bytes("1,-1,1,2,3,4,1\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"seq\.txt: .*UTF-8"):
        mot.read(path)


def test_coordinates_in_the_world_are_no_classes_and_raw_scores_need_a_scale(tmp_path):
    path = tmp_path / "seq.txt"
    path.write_text("22,-1,360,187,36,83,80,-8.25,-6.5,0\n23,-1,680,275,43,98,20,-11,-14,0\n")
    found = mot.read(path)
    assert [boxes.labels.tolist() for boxes in found.frames] == [[0], [0]]
    assert [boxes.scores.tolist() for boxes in found.frames] == [[80], [20]]
    assert sum(found.report.notes.values()) == 2
    assert [boxes.scores.tolist() for boxes in mot.read(path, 100).frames] == [[0.8], [0.2]]
    with pytest.raises(InputError, match=r"seq\.txt:1: score 80, .*--score_scale"):
        mot.read(path, 1)


def test_a_second_clip_is_refused(tmp_path):
    one = Boxes(np.ones((1, 4)), np.ones(1), np.zeros(1, int), source="a_1.jpg")
    other = Boxes(np.ones((1, 4)), np.ones(1), np.zeros(1, int), source="b_2.jpg")
    with pytest.raises(InputError, match="2 clips, and MOT text holds one"):
        mot.write(tmp_path / "x.txt", [one, other])
    assert list(tmp_path.iterdir()) == []
