import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.formats import csv
from jaxdet.structs import Boxes

NAMES = ("cat", 'a, "b"')


def _frames():
    rng = np.random.default_rng(0)
    xyxy, scores = rng.uniform(0, 99, (4, 4)).astype(np.float32), rng.random(4, np.float32)
    labels = np.array([1, 0, 1, 0], np.int32)
    where = [
        {"source": "a/ü.jpg", "image_id": "x", "image_size": (10, 20)},
        {"source": "film.mp4", "frame": 0},
        {"source": "rec", "time_us": 5000},
        {"source": "b.jpg", "image_id": 3},
    ]
    frames = [Boxes(xyxy, scores, labels, class_names=NAMES, **w) for w in where]
    return [*frames, Boxes.none(source="empty.jpg", image_size=(3, 4))]


def test_all_that_boxes_know_comes_back(tmp_path):
    csv.write(tmp_path / "x.csv", _frames(), NAMES)
    found = csv.read(tmp_path / "x.csv")
    assert (found.class_names, found.has_scores, bool(found.report)) == (NAMES, True, False)
    for a, b in zip(found.frames, _frames(), strict=True):
        for key in ("source", "frame", "time_us", "image_id", "image_size"):
            assert getattr(a, key) == getattr(b, key)
        np.testing.assert_array_equal(a.xyxy.astype(np.float32), b.xyxy)
        np.testing.assert_array_equal(a.scores.astype(np.float32), b.scores)
        np.testing.assert_array_equal(a.labels, b.labels)


def test_tables_of_other_tools(tmp_path):
    (tmp_path / "x.csv").write_text(
        "class,x1,y1,x2,y2,source,more\ndog,1,2,3,4,a.jpg,7\ncat,1,2,3,4,a.jpg,\n"
    )
    found = csv.read(tmp_path / "x.csv")
    assert (found.class_names, found.has_scores) == (("cat", "dog"), False)
    assert found.frames[0].labels.tolist() == [1, 0]
    (tmp_path / "x.csv").write_text("label,x1,y1,x2,y2,source\n5,1,2,3,4,a.jpg\n")
    found = csv.read(tmp_path / "x.csv")
    assert (found.class_names, found.frames[0].labels.tolist()) == ((), [5])


@pytest.mark.parametrize(
    "bad", ["a.jpg,1,2,nan,4,0", "a.jpg,1,2,3", "a.jpg,1,2,3,x,0", "a.jpg,1,2,3,4,-1", "a.jpg,1,2,3,4,1.5"]
)
def test_lines_that_cannot_be_read_are_counted(tmp_path, bad):
    (tmp_path / "x.csv").write_text(f"source,x1,y1,x2,y2,label\na.jpg,1,2,3,4,0\n{bad}\n")
    found = csv.read(tmp_path / "x.csv")
    assert len(found.frames[0]) == 1
    assert "line 3" in found.report.line()
    (tmp_path / "x.csv").write_text(f"source,x1,y1,x2,y2,label\n{bad}\n")
    with pytest.raises(InputError, match=r"x\.csv: no box could be read"):
        csv.read(tmp_path / "x.csv")


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff", b"source,x1,y1,x2,y2\n", b"\x00"])
def test_what_is_no_table_of_boxes_is_one_line(tmp_path, content):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(InputError, match="expected a table of boxes") as caught:
        csv.read(tmp_path / "x.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "reason"), [("track", "without four"), ("frame", "no whole"), ("time_us", "no whole")]
)
@pytest.mark.parametrize("number", [1 << 63, -(1 << 70), 1 << 62])
def test_a_number_beyond_64_bits_is_a_line_left_out(tmp_path, column, reason, number):
    header = "source,frame,time_us,x1,y1,x2,y2,label,track"
    good = {
        "source": "a",
        "frame": 1,
        "time_us": "",
        "x1": 1,
        "y1": 2,
        "x2": 3,
        "y2": 4,
        "label": 0,
        "track": 1,
    }
    rows = [",".join(map(str, row.values())) for row in (good, good | {"frame": 2, column: number})]
    (tmp_path / "x.csv").write_text("\n".join([header, *rows]))
    found = csv.read(tmp_path / "x.csv")
    assert sum(map(len, found.frames)) == 1
    (told,) = found.report.counts
    assert reason in told
