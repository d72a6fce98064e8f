"""COCO JSON: one reader for labels of training and evaluation, and results that carry names and identity."""

import json

import numpy as np
import pytest

from jaxdet import class_names
from jaxdet.detections import files
from jaxdet.errors import InputError
from jaxdet.formats import coco
from jaxdet.structs import Boxes

IMAGES = [{"id": 7, "file_name": "b.jpg", "width": 20, "height": 10}, {"id": 3, "file_name": "a.jpg"}]
CATEGORIES = [{"id": 90, "name": "dog"}, {"id": 2, "name": "cat"}]
ROW = {"id": 5, "image_id": 7, "category_id": 90, "bbox": [1, 2, 3.1, 4], "iscrowd": 1}


def _read(tmp_path, annotations=(ROW,), images=IMAGES, categories=CATEGORIES):
    content = {"images": images, "annotations": list(annotations), "categories": categories}
    path = tmp_path / "gt.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())  # as editors on Windows save it
    return coco.read_annotations(path)


def test_images_and_classes_come_in_the_order_of_their_ids(tmp_path):
    found = _read(tmp_path)
    assert found.class_names == ("cat", "dog")
    assert found.category_ids == (2, 90)
    assert [(f.source, f.image_id, f.image_size) for f in found.frames] == [
        ("a.jpg", 3, None),
        ("b.jpg", 7, (10, 20)),
    ]
    assert [len(f) for f in found.frames] == [0, 1]
    one = found.frames[1]
    assert (one.labels[0], one.area[0], one.crowd[0]) == (1, 3.1 * 4, True)
    assert one.xywh.tolist() == [[1, 2, 3.1, 4]]
    assert not found.report


@pytest.mark.parametrize("image", ["7", 7.0, 7])
@pytest.mark.parametrize("of_row", ["7", 7.0, 7])
def test_a_number_is_one_id_however_it_is_written(tmp_path, image, of_row):
    images = [{**IMAGES[0], "id": image}]
    found = _read(tmp_path, [{**ROW, "image_id": of_row}], images)
    assert [len(f) for f in found.frames] == [1]


def test_text_ids_stay_text(tmp_path):
    images = [{"id": key, "file_name": f"{key}.jpg"} for key in ("007", "7", "x")]
    found = _read(tmp_path, [{**ROW, "image_id": "007"}], images)
    assert [f.image_id for f in found.frames] == [7, "007", "x"]
    assert [len(f) for f in found.frames] == [0, 1, 0]


@pytest.mark.parametrize("area", [None, "big", float("nan")])
def test_an_area_that_is_no_number_is_width_times_height(tmp_path, area):
    found = _read(tmp_path, [{**ROW, "area": area}])
    assert found.frames[1].area[0] == 3.1 * 4
    assert bool(found.report) == (area is not None)


@pytest.mark.parametrize(
    "bad",
    [
        {"bbox": None},
        {"bbox": []},
        {"bbox": ["1", "2", "3", "4"]},
        {"bbox": "1234"},
        {"bbox": [1, 2, True, 4]},
        {"bbox": [1, 2, float("nan"), 4]},
        {"bbox": [1, 2, 10**400, 4]},
        {"bbox": [1, 2, -3, 4]},
        {"image_id": 8},
        {"image_id": None},
        {"image_id": [7]},
        {"image_id": True},
        {"category_id": 91},
        {"category_id": 90.5},
    ],
)
def test_one_bad_annotation_is_counted_and_the_rest_is_read(tmp_path, bad):
    found = _read(tmp_path, [ROW, {**ROW, "id": 268988, **bad}, "text"])
    assert [len(f) for f in found.frames] == [0, 1]
    assert sum(found.report.counts.values()) == 2
    assert "annotation 268988" in found.report.line()
    with pytest.raises(InputError, match=r"gt\.json: none of 1 annotations.*annotation 268988"):
        _read(tmp_path, [{**ROW, "id": 268988, **bad}])


@pytest.mark.parametrize("bbox", [{"bbox": None}, {"bbox": []}, {}])
def test_an_annotation_without_a_box_gets_that_of_its_polygons(tmp_path, bbox):
    row = {key: value for key, value in ROW.items() if key != "bbox"} | bbox
    polygons = [[1, 2, 4.5, 2, 4, 8], [0.5, 3, 1, 7, 2, 6]]
    found = _read(tmp_path, [row | {"segmentation": polygons}])
    assert found.frames[1].xywh.tolist() == [[0.5, 2, 4, 6]]
    assert (found.report.num_lost, found.report.notes) == (0, {"bboxes taken from polygons": 1})
    for bad in (
        {"counts": [1], "size": [1, 1]},
        [],
        [[1, 2]],
        [[1, 2, 3, 4, 5, "6"]],
        [[1, 2, 3, 4, 5, 6, 7]],
    ):
        assert len(_read(tmp_path, [ROW, row | {"segmentation": bad}]).frames[1]) == 1


@pytest.mark.parametrize(
    "size", [{"width": None, "height": None}, {"width": "20", "height": 10}, {"width": 0, "height": 0}]
)
def test_a_size_that_is_none_is_unknown(tmp_path, size):
    assert _read(tmp_path, images=[{**IMAGES[0], **size}]).frames[0].image_size is None


def test_an_image_without_a_name_keeps_its_boxes_and_is_counted(tmp_path):
    found = _read(tmp_path, images=[{"id": 7}, {"file_name": "x.jpg"}, 3])
    assert [(f.source, len(f)) for f in found.frames] == [("", 1)]
    assert found.report.counts == {"images without an id": 2}
    assert found.report.notes == {"images without a file name": 1}


def test_names_that_stand_for_two_things_are_refused(tmp_path):
    with pytest.raises(InputError, match="image id 7 stands for"):
        _read(tmp_path, images=[*IMAGES, {"id": "7", "file_name": "c.jpg"}])
    with pytest.raises(InputError, match="category id 2 stands for"):
        _read(tmp_path, categories=[*CATEGORIES, {"id": 2, "name": "cow"}])
    both = [ROW, {**ROW, "category_id": 4}]
    with pytest.raises(InputError, match="two categories are called 'dog'"):
        _read(tmp_path, both, categories=[*CATEGORIES, {"id": 4, "name": "dog"}])
    root = _read(
        tmp_path, categories=[*CATEGORIES, {"id": 0, "name": "dog"}]
    )  # as exports of Roboflow have it
    assert root.category_ids == (2, 90)
    assert (root.report.num_lost, sum(root.report.notes.values())) == (0, 1)


def test_classes_get_the_names_of_a_detector_by_a_map_and_without_case(tmp_path):
    rows = [{**ROW, "category_id": 2}, {**ROW, "category_id": 90}, {**ROW, "category_id": 3}]
    categories = [{"id": 2, "name": "Bike"}, {"id": 90, "name": "Person"}, {"id": 3, "name": "bicycle"}]
    known = _read(tmp_path, rows, categories=categories)
    found = coco.renamed(known, ("person", "bicycle"), {"bike": "bicycle"})
    assert found.class_names == ("bicycle", "person")
    assert found.category_ids == (2, 90)
    names = [boxes.names for boxes in found.frames if len(boxes)]
    assert names == [("bicycle", "person", "bicycle")]
    assert "2 categories under another name" in found.report.line()
    with pytest.raises(InputError, match="class map names 'bus'"):
        coco.renamed(known, ("person",), {"bike": "bus"})


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"images": {}, "annotations": [], "categories": []}', b"\xff{}", b"[" * 10**5],
)
def test_what_is_no_annotation_file_is_one_line(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    for path in (tmp_path / "x.json", tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match="expected COCO annotations") as caught:
            coco.read_annotations(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def _frame(source="s/000000000042.jpg", labels=(0, 1), **where):
    xyxy = np.array([[0.1, 2, 30.7, 40.2], [5, 6, 7, 8]], np.float32)[: len(labels)]
    return Boxes(
        xyxy, np.array([0.9, 0.3], np.float32)[: len(labels)], np.array(labels), source=source, **where
    )


def test_classes_of_coco_get_the_ids_of_coco(tmp_path):
    coco.write_results(tmp_path / "r.json", [_frame(labels=[21, 79])], class_names.COCO)
    rows = json.loads((tmp_path / "r.json").read_text())
    assert [(row["category_id"], row["category_name"]) for row in rows] == [(23, "bear"), (90, "toothbrush")]
    assert {row["image_id"] for row in rows} == {42}
    coco.write_results(tmp_path / "r.json", [_frame()], class_names.LTD)
    assert [row["category_id"] for row in json.loads((tmp_path / "r.json").read_text())] == [1, 2]


def test_results_keep_names_and_identity_without_annotations(tmp_path):
    frames = [
        _frame(class_names=class_names.LTD),
        _frame("film.mp4", frame=3, class_names=class_names.LTD),
        _frame("rec", time_us=5000, class_names=class_names.LTD),
        _frame("b.jpg", image_id=9, class_names=class_names.LTD),
        _frame("empty.jpg", labels=[]),
    ]
    coco.write_results(tmp_path / "r.json", frames, class_names.LTD)
    found = coco.read_results(tmp_path / "r.json")
    assert found.class_names == ("human", "bicycle")
    assert len(found.frames) == 4  # an image without boxes is nowhere in COCO results
    for a, b in zip(found.frames, frames, strict=False):
        assert (a.source, a.frame, a.time_us) == (b.source, b.frame, b.time_us)
        np.testing.assert_array_equal(a.xywh, b.xywh)
        np.testing.assert_array_equal(a.scores.astype(np.float32), b.scores)
        assert a.labels.tolist() == b.labels.tolist()
    assert found.frames[3].image_id == 9


def test_ids_of_images_are_numbers_only_where_they_tell_images_apart(tmp_path):
    assert coco.image_ids([_frame("a/1.jpg"), _frame("a/2.jpg")]) == [1, 2]
    assert coco.image_ids([_frame("a/1.jpg"), _frame("b/1.jpg")]) == ["a/1", "b/1"]
    assert coco.image_ids([_frame("a/1.jpg"), _frame("a/1.png")]) == ["a/1.jpg", "a/1.png"]
    with pytest.raises(InputError, match="collide"):
        coco.image_ids([_frame("a/1.jpg"), _frame("b.jpg", image_id=1)])


def test_classes_by_name_first_and_by_id_where_there_are_no_names(tmp_path):
    labels = _read(tmp_path)
    row = {"image_id": "7", "bbox": [1, 2, 3, 4], "score": 0.5}
    rows = [
        {**row, "category_id": 2, "category_name": "dog"},
        {**row, "category_id": "2"},
        {**row, "category_id": 1},
    ]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    found = coco.read_results(tmp_path / "r.json", labels)
    assert found.frames[0].labels.tolist() == [1, 0]
    assert found.report.counts == {"boxes of categories that are not listed": 1}
    (tmp_path / "r.json").write_text(json.dumps(rows[1:]))
    found = coco.read_results(tmp_path / "r.json")
    assert (found.class_names, found.frames[0].labels.tolist()) == ((), [2, 1])
    coco.write_results(tmp_path / "again.json", found.frames)
    assert [r["category_id"] for r in json.loads((tmp_path / "again.json").read_text())] == [2, 1]


@pytest.mark.parametrize(
    "bad",
    [
        {"bbox": ["10", "10", "50", "80"]},
        {"score": None},
        {"score": "0.5"},
        {"image_id": None},
        {"category_id": {}},
    ],
)
def test_one_bad_result_is_counted_and_the_rest_is_read(tmp_path, bad):
    row = {"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}
    (tmp_path / "r.json").write_text(json.dumps([row, {**row, **bad}]))
    found = coco.read_results(tmp_path / "r.json")
    assert [len(f) for f in found.frames] == [1]
    assert "row 2" in found.report.line()
    (tmp_path / "r.json").write_text(json.dumps([{**row, **bad}]))
    with pytest.raises(InputError, match=r"r\.json: none of 1 boxes could be read"):
        coco.read_results(tmp_path / "r.json")


@pytest.mark.parametrize("key", ["frame", "time_us", "track_id"])
def test_a_number_beyond_64_bits_is_a_box_left_out(tmp_path, key):
    row = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    (tmp_path / "x.json").write_text(json.dumps([row, row | {key: 1 << 70}]))
    found = files.read(tmp_path / "x.json")
    assert sum(map(len, found.frames)) == 1
    assert found.report.counts == {"boxes whose frame, time or track does not fit 64 bits": 1}


@pytest.mark.parametrize("bad", [{"frame": 1.5}, {"frame": "one"}, {"time_us": "now"}, {"time_us": [1]}])
def test_a_frame_or_time_that_is_not_a_whole_number_is_a_box_left_out(tmp_path, bad):
    """Without it, the box would belong to another image."""
    row = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    (tmp_path / "x.json").write_text(json.dumps([row | {"frame": 1}, row | bad]))
    found = files.read(tmp_path / "x.json")
    assert [(boxes.frame, len(boxes)) for boxes in found.frames] == [(1, 1)]
    assert found.report.counts == {f"boxes whose {next(iter(bad))} is not a whole number": 1}
