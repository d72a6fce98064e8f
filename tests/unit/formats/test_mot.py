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
    "line", ["1,2,3", "1,-1,1,2,3,four,1", "1.5,-1,1,2,3,4,1", "1,-1,1,2,3,4,1,0.5,2,3", "a b c"]
)
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "seq.txt"
    path.write_text(f"1,-1,1,2,3,4,1\n{line}\n")
    with pytest.raises(InputError, match=r"seq.txt:2: .*expected"):
        mot.read(path)


def test_a_second_clip_is_refused(tmp_path):
    one = Boxes(np.ones((1, 4)), np.ones(1), np.zeros(1, int), source="a_1.jpg")
    other = Boxes(np.ones((1, 4)), np.ones(1), np.zeros(1, int), source="b_2.jpg")
    with pytest.raises(InputError, match="2 clips, and MOT text holds one"):
        mot.write(tmp_path / "x.txt", [one, other])
    assert list(tmp_path.iterdir()) == []
