import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.formats import yolo
from jaxdet.structs import Boxes, ReadReport


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("4 .5 .5 .1 .1", "class 4"),
        ("0.5 .5 .5 .1 .1", "class 0.5"),
        ("0 .5 .5 .1", "4 columns"),
        ("0 .5 1.5 .1 .1", "coordinates"),
        ("car .5 .5 .1 .1", "not numbers"),
        ("0 nan .5 .1 .1", "not numbers"),
    ],
)
def test_a_bad_label_is_named_by_file_and_line(tmp_path, line, message):
    path = tmp_path / "x.txt"
    path.write_text(f"0 .5 .5 .1 .1\n{line}\n")
    with pytest.raises(InputError, match=rf"x\.txt:2: .*{message}"):
        yolo.read_labels(path, 4)
    report = ReadReport()
    if message.startswith("class"):  # the set has other classes than its config says
        with pytest.raises(InputError, match="class"):
            yolo.read_labels(path, 4, report)
    else:
        assert len(yolo.read_labels(path, 4, report)) == 1
        assert "x.txt:2" in report.line()


def test_rounding_errors_at_the_border_are_mended_and_counted(tmp_path):
    report = ReadReport()
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbf1 .5 .5 1.0004374 -1e-7\n0 .25 .5 1 1\n")
    rows = yolo.read_labels(tmp_path / "x.txt", 2, report)
    assert rows.tolist() == [[1, 0.5, 0.5, 1, 0], [0, 0.25, 0.5, 1, 1]]
    assert (report.num_lost, sum(report.notes.values())) == (0, 1)


def test_confidences_and_polygons_of_other_tools_are_read_as_boxes(tmp_path):
    report = ReadReport()
    (tmp_path / "x.txt").write_text("0 .5 .5 .25 .25 .93\n1 .25 .25 .75 .25 .5 .75\n1 .1 .2 .3 .4 .5 .6 .7\n")
    rows = yolo.read_labels(tmp_path / "x.txt", 2, report)
    assert rows.tolist() == [[0, 0.5, 0.5, 0.25, 0.25], [1, 0.5, 0.5, 0.5, 0.5]]
    assert report.notes == {
        "label lines without their sixth column": 1,
        "polygons as the boxes around them": 1,
    }
    assert report.counts == {"label lines with 8 columns, not 5": 1}


def test_a_missing_file_is_an_image_without_boxes_and_other_encodings_are_one_line(tmp_path):
    assert yolo.read_labels(tmp_path / "x.txt", 2).shape == (0, 5)
    (tmp_path / "x.txt").write_bytes("0 .5 .5 .1 .1 # \xe9".encode("latin1"))
    with pytest.raises(InputError, match=r"x\.txt: .*UTF-8"):
        yolo.read_labels(tmp_path / "x.txt", 2)
    report = ReadReport()
    assert yolo.read_labels(tmp_path / "x.txt", 2, report) is None
    assert report.counts == {"images whose label file cannot be read": 1}


def test_detections_come_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 100, (50, 4)).astype(np.float32)
    scores = rng.random(50, np.float32)
    boxes = Boxes(
        corners,
        scores,
        rng.integers(0, 3, 50, np.int32),
        source="a/x.jpg",
        image_size=(240, 304),
        class_names=("a",),
    )
    path = yolo.write_text(tmp_path, boxes)
    assert path == tmp_path / "a" / "x.txt"
    found = yolo.read_text(path, (240, 304), source="a/x.jpg")
    np.testing.assert_array_equal(found.xyxy, corners)
    np.testing.assert_array_equal(found.scores, scores)
    np.testing.assert_array_equal(found.labels, boxes.labels)
    path = yolo.write_text(tmp_path, boxes.take(slice(0, 0)))
    assert path.read_text() == ""
    assert len(yolo.read_text(path, (240, 304))) == 0


@pytest.mark.parametrize("source", ["../x.jpg", "/x.jpg", ""])
def test_sources_that_lead_out_of_the_folder_are_refused(tmp_path, source):
    with pytest.raises(InputError, match="name of an image"):
        yolo.write_text(tmp_path / "out", Boxes.none(source=source, image_size=(1, 1)))
    with pytest.raises(InputError, match="size of the image is not known"):
        yolo.write_text(tmp_path / "out", Boxes.none(source="x.jpg"))


def test_lines_of_detections_that_cannot_be_read(tmp_path):
    (tmp_path / "c.txt").write_text("0 1 2\n1 .5 .5 .2 .2\n")
    with pytest.raises(InputError, match=r"c\.txt:1"):
        yolo.read_text(tmp_path / "c.txt", (10, 10))
    report = ReadReport()
    found = yolo.read_text(tmp_path / "c.txt", (10, 10), report)
    assert (found.scores.tolist(), found.labels.tolist()) == ([1], [1])
    np.testing.assert_allclose(found.xyxy, [[4, 4, 6, 6]], rtol=1e-6)  # float32
    assert sum(report.counts.values()) == 1
