import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.formats import voc
from jaxdet.structs import Boxes

OBJECT = """<object><name>{}</name><difficult>1</difficult>
<bndbox><xmax>30</xmax><xmin>10</xmin><ymin>20</ymin><ymax>40.5</ymax></bndbox></object>"""
FILE = """<?xml version="1.0"?><annotation><folder>x</folder><filename>a.jpg</filename>
<size><width>64</width><height>48</height><depth>3</depth></size>{}</annotation>"""


def test_labels_by_the_names_of_their_classes(tmp_path):
    (tmp_path / "a.xml").write_text(FILE.format(OBJECT.format("dog") + OBJECT.format("cat")))
    found = voc.read(tmp_path)
    (boxes,) = found.frames
    assert (found.class_names, found.has_scores) == (("cat", "dog"), False)
    assert (boxes.source, boxes.image_size, boxes.labels.tolist()) == ("a.jpg", (48, 64), [1, 0])
    assert boxes.xyxy.tolist() == [[10, 20, 30, 40.5]] * 2
    only = voc.read(tmp_path / "a.xml", ("dog",))
    assert only.frames[0].labels.tolist() == [0]
    assert only.report.counts == {"objects of other classes": 1}


def test_boxes_with_scores_come_back(tmp_path):
    rng = np.random.default_rng(0)
    boxes = Boxes(
        rng.uniform(0, 99, (4, 4)).astype(np.float32), rng.random(4, np.float32), np.array([1, 0, 1, 0]),
        source="s/a.jpg", image_size=(48, 64),
    )  # fmt: skip
    voc.write(tmp_path, [boxes, Boxes.none(source="s/b.jpg")], ("<cat>", "dog"))
    found = voc.read(tmp_path)
    assert (found.class_names, found.has_scores) == (("<cat>", "dog"), True)
    assert [f.source for f in found.frames] == ["s/a.jpg", "s/b.jpg"]
    one = found.frames[0]
    np.testing.assert_array_equal(one.xyxy.astype(np.float32), boxes.xyxy)
    np.testing.assert_array_equal(one.scores.astype(np.float32), boxes.scores)
    assert one.labels.tolist() == [1, 0, 1, 0]
    with pytest.raises(InputError, match=r"without \.\."):
        voc.write(tmp_path, [Boxes.none(source="../x.jpg")], ())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<a/>",
        "<annotation>",
        '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>',
        "<annotation" + "><x" * 5,
    ],
)
def test_what_is_no_annotation_is_one_line_and_does_not_end_a_folder(tmp_path, text):
    (tmp_path / "bad.xml").write_text(text)
    with pytest.raises(InputError, match=r"bad\.xml") as caught:
        voc.read(tmp_path / "bad.xml")
    assert "\n" not in str(caught.value)
    (tmp_path / "good.xml").write_text(FILE.format(OBJECT.format("dog")))
    found = voc.read(tmp_path)
    assert (len(found.frames), sum(found.report.counts.values())) == (1, 1)


def test_an_object_that_cannot_be_read_is_counted(tmp_path):
    bad = OBJECT.format("dog").replace("40.5", "nan")
    (tmp_path / "a.xml").write_text(FILE.format(bad + OBJECT.format("dog") + OBJECT.format("")))
    found = voc.read(tmp_path)
    assert (len(found.frames[0]), sum(found.report.counts.values())) == (1, 2)
