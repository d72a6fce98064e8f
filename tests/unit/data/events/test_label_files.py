"""Labels of recordings in every layout give the same rows."""

import json

import numpy as np
import pytest

from jaxdet.data.events import label_files
from jaxdet.data.events.label_files import ROWS, Classes
from jaxdet.errors import InputError
from jaxdet.formats import npy
from jaxdet.structs import ReadReport

SIZE = (240, 304)
NAMES = ("car", "person")
# time, x, y, w, h, class; sizes that fractions of the sensor hold exactly
BOXES = [(50_000, 76, 60, 38, 30, 0), (50_000, 19, 15, 38, 60, 1), (150_000, 152, 120, 76, 30, 1)]


def expected():
    rows = np.zeros(3, ROWS)
    for row, (t, x, y, w, h, label) in zip(rows, BOXES, strict=True):
        row["t"], row["x"], row["y"], row["w"], row["h"], row["class_id"] = t, x, y, w, h, label
    rows["confidence"] = 1
    return rows


def write_npy(folder, kind="f4"):
    names = ["ts", "class_id", "x", "y", "w", "h"]
    table = np.zeros(3, [("ts", "u8"), ("class_id", "i2"), *((side, kind) for side in "xywh")])
    for name, column in zip(names, np.array(BOXES)[:, [0, 5, 1, 2, 3, 4]].T, strict=True):
        table[name] = column
    np.save(folder / "rec_bbox.npy", table)


def write_csv(folder):
    lines = ["recording,time_ms,x,y,w,h,class"]
    lines += [f"rec.raw,{t / 1000},{x},{y},{w},{h},{NAMES[n]}" for t, x, y, w, h, n in BOXES]
    (folder / "all.csv").write_text("\n".join([*lines, "rec.raw,250,,,,,"]))


def write_corners(folder):
    lines = ["time_us,x1,y1,x2,y2,label"]
    lines += [f"{t},{x},{y},{x + w},{y + h},{n}" for t, x, y, w, h, n in BOXES]
    (folder / "rec.csv").write_text("\n".join(lines))


def coco_content(images):
    boxes = [
        {"id": i, "image_id": 7 if t == 50_000 else 8, "category_id": 3 + n, "bbox": [x, y, w, h]}
        for i, (t, x, y, w, h, n) in enumerate(BOXES)
    ]
    categories = [{"id": 3 + n, "name": name} for n, name in enumerate(NAMES)]
    return {"images": images, "annotations": boxes, "categories": categories}


def write_coco(folder):
    images = [
        {"id": 7, "file_name": "rec/a.png", "time_us": 50_000},
        {"id": 8, "file_name": "b.png", "recording": "rec", "time_s": 0.15},
        {"id": 9, "file_name": "rec/empty.png", "time_ms": 250},
    ]
    (folder / "labels.json").write_text(json.dumps(coco_content(images)))


def write_yolo(folder):
    (folder / "rec").mkdir()
    for t, x, y, w, h, n in BOXES:
        with open(folder / "rec" / f"{t}.txt", "a") as file:
            file.write(f"{n} {(x + w / 2) / 304!r} {(y + h / 2) / 240!r} {w / 304!r} {h / 240!r}\n")
    (folder / "rec_250000.txt").touch()


def write_voc(folder):
    for time in (50_000, 150_000, 250_000):
        objects = "".join(
            f"<object><name>{NAMES[n]}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax>"
            f"<ymax>{y + h}</ymax></bndbox></object>"
            for t, x, y, w, h, n in BOXES
            if t == time
        )
        (folder / f"rec_{time}.xml").write_text(f"<annotation>{objects}</annotation>")


def read(folder, classes=None, problems=None):
    report = ReadReport()
    lines = [] if problems is None else problems
    found = label_files.read(label_files.find(folder), lambda _: SIZE, report, lines)
    assert problems is not None or not lines
    chosen = {
        name: (classes or Classes(NAMES)).select(parts, report) for name, parts in found.items()
    }  # fmt: skip
    return chosen, report


@pytest.mark.parametrize(
    ("write", "empty"),
    [(write_npy, False), (write_csv, True), (write_corners, False), (write_coco, True), (write_yolo, True),
     (write_voc, True)],
)  # fmt: skip
def test_every_layout_gives_the_same_rows(tmp_path, write, empty):
    write(tmp_path)
    chosen, report = read(tmp_path)
    assert list(chosen) == ["rec"]
    rows, times = chosen["rec"]
    for name in ("t", "class_id", "confidence"):
        np.testing.assert_array_equal(rows[name], expected()[name])
    for side in "xywh":  # float32 of fractions
        np.testing.assert_allclose(rows[side], expected()[side], rtol=3e-7, atol=3e-5)
    assert times.tolist() == [50_000, 150_000, *([250_000] if empty else [])]
    assert not report


@pytest.mark.parametrize("kind", ["i2", "u4", "f8", "f2"])
def test_columns_are_of_any_numeric_type(tmp_path, kind):
    write_npy(tmp_path, kind)
    np.testing.assert_array_equal(read(tmp_path)[0]["rec"].rows["w"], expected()["w"])


def test_rows_of_prophesee_keep_tracks_and_confidence(tmp_path):
    table = np.zeros(2, npy.ROWS)
    table["t"], table["track_id"], table["class_confidence"] = (2000, 1000), (5, 6), (0.5, 0.25)
    np.save(tmp_path / "a_bbox.npy", table)
    rows = read(tmp_path)[0]["a"].rows
    assert rows[["t", "track_id", "confidence"]].tolist() == [(1000, 6, 0.25), (2000, 5, 0.5)]


def test_rows_that_are_no_numbers_are_counted_and_the_others_stay(tmp_path):
    table = np.zeros(4, [("t", "f8"), *((side, "f8") for side in "xywh"), ("class_id", "f8")])
    table["t"], table["x"][1], table["class_id"][2] = (np.nan, 1, 2, 3), np.inf, -1
    np.save(tmp_path / "a_bbox.npy", table)
    chosen, report = read(tmp_path)
    assert chosen["a"].rows["t"].tolist() == [3]
    assert report.counts == {"labels with invalid numbers": 3}


def test_a_negative_time_without_sign_is_negative_again(tmp_path):
    table = np.zeros(1, [("t", "u8"), *((side, "f4") for side in "xywh"), ("class_id", "u1")])
    table["t"] = np.array([-33_333]).astype(np.uint64)
    np.save(tmp_path / "a_bbox.npy", table)
    assert read(tmp_path)[0]["a"].rows["t"].tolist() == [-33_333]


@pytest.mark.parametrize(
    ("renamed", "labels", "left"),
    [
        ((), [0, 1, 1], {}),
        ((("car", "person"),), [1, 1, 1], {}),
        ((("person", ""),), [0], {"labels of other classes (person)": 2}),
    ],
)
def test_classes_take_other_names(tmp_path, renamed, labels, left):
    write_csv(tmp_path)
    chosen, report = read(tmp_path, Classes(NAMES, renamed))
    assert chosen["rec"].rows["class_id"].tolist() == labels
    assert report.counts == left


def test_classes_without_names_are_renamed_by_number_and_others_counted(tmp_path):
    write_npy(tmp_path)
    chosen, report = read(tmp_path, Classes(("bus",), (("1", "bus"), ("0", ""))))
    assert chosen["rec"].rows["t"].tolist() == [50_000, 150_000]
    assert report.counts == {"labels of other classes (0)": 1}
    chosen, report = read(tmp_path, Classes(("Car",)))
    assert chosen["rec"].rows["class_id"].tolist() == [0]
    assert report.counts == {"labels of other classes (1)": 2}


def test_names_differ_by_case_only(tmp_path):
    write_csv(tmp_path)
    assert len(read(tmp_path, Classes(("Person",)))[0]["rec"].rows) == 2


@pytest.mark.parametrize(
    ("names", "renamed", "told"),
    [(("a", "a"), (), "expected different names"), (("a",), (("b", "c"),), "--map=b=c: expected one of")],
)
def test_classes_that_cannot_be(names, renamed, told):
    with pytest.raises(InputError, match=told):
        Classes(names, renamed)


def test_what_has_no_time_is_counted_and_a_broken_file_is_one_line(tmp_path):
    (tmp_path / "rec_x.txt").write_text("0 .5 .5 .1 .1")
    (tmp_path / "rec.csv").write_text("x1,y1,x2,y2,class\n1,2,3,4,car\n")
    (tmp_path / "a.json").write_text(json.dumps(coco_content([{"id": 7, "file_name": "f"}])))
    (tmp_path / "b.json").write_text("{")
    problems = []
    chosen, report = read(tmp_path, problems=problems)
    assert not chosen
    (line,) = problems
    assert "b.json: not JSON" in line
    assert report.counts == {
        "label files whose name is not <recording>_<time in us>": 1,
        "label lines without a time": 1,
        "labelled images without time_us, time_ms or time_s": 1,
        "annotations of images that are not listed": 1,
    }


def test_no_labels_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no labels; expected files of \.npy, \.csv"):
        label_files.find(tmp_path)
