"""Boxes of a recording as a structured array."""

import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.formats import npy
from jaxdet.structs import Boxes

XYXY = np.array([[1, 2, 30, 40], [5, 6, 7.5, 8.25]], np.float32)


def _frame(time_us, rows=slice(None)):
    scores, labels = np.array([0.9, 0.5], np.float32)[rows], np.array([0, 1], np.int32)[rows]
    return Boxes(XYXY[rows], scores, labels, source="x", time_us=time_us)


def test_rows_have_the_released_layout(tmp_path):
    assert npy.ROWS.itemsize == 40
    npy.write(tmp_path / "x_td.npy", [_frame(5_000), _frame(7_000, slice(0)), _frame(10_000, slice(1, 2))])
    table = npy.read_table(tmp_path / "x_td.npy")
    assert table.dtype == npy.ROWS
    assert table["t"].tolist() == [5_000, 5_000, 10_000]
    assert table["w"].tolist() == [29, 2.5, 2.5]
    assert table["class_id"].tolist() == [0, 1, 1]
    np.testing.assert_array_equal(table["class_confidence"], np.array([0.9, 0.5, 0.5], np.float32))
    found = npy.read(tmp_path / "x_td.npy")
    assert [(boxes.source, boxes.time_us, len(boxes)) for boxes in found.frames] == [
        ("x", 5_000, 2),
        ("x", 10_000, 1),
    ]
    assert found.has_scores
    npy.write(tmp_path / "e.npy", [])
    assert npy.read(tmp_path / "e.npy").frames == []


def test_a_file_written_frame_by_frame_is_that_of_numpy(tmp_path):
    frames = [_frame(5_000 * k) for k in range(600)]
    whole = np.zeros(1200, npy.ROWS)  # concatenation would drop the padding
    for k, boxes in enumerate(frames):
        whole[2 * k : 2 * k + 2] = npy.rows_of(boxes)
    np.save(tmp_path / "whole.npy", whole)
    npy.write(tmp_path / "pieces.npy", frames)
    assert (tmp_path / "pieces.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.parametrize(
    "fields",
    [
        [("ts", "<u8"), *((side, "<f8") for side in "xywh"), ("class_id", "u1"), ("confidence", "<f8")],
        [("class_id", "<i8"), *((side, "<i2") for side in "hwyx"), ("t", "<i4"), ("track_id", "<u4")],
    ],
)  # fmt: skip
def test_columns_of_any_type_and_order_are_read(tmp_path, fields):
    table = np.zeros(3, fields)
    time, score = fields[0][0] if "ts" in dict(fields) else "t", "confidence"
    table[time], table["x"], table["w"], table["class_id"] = [9, 4, 9], [1, 2, 3], 5, [0, 1, 2]
    if score in dict(fields):
        table[score] = [0.25, 0.5, 0.75]
    np.save(tmp_path / "day_bbox.npy", table)
    found = npy.read(tmp_path / "day_bbox.npy")
    assert [boxes.time_us for boxes in found.frames] == [4, 9]
    assert [boxes.source for boxes in found.frames] == ["day", "day"]
    assert found.frames[1].labels.tolist() == [0, 2]
    assert found.frames[1].xyxy.tolist() == [[1, 0, 6, 0], [3, 0, 8, 0]]
    assert found.frames[1].xywh.dtype == table["x"].dtype
    assert found.has_scores == (score in dict(fields))
    assert found.frames[1].scores.tolist() == ([0.25, 0.75] if found.has_scores else [1, 1])


def test_other_arrays_are_refused(tmp_path):
    np.save(tmp_path / "plain.npy", np.zeros((3, 2)))
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "empty.npy", np.zeros((0,)))
    np.save(tmp_path / "fields.npy", np.zeros(3, [("t", "i8"), ("x", "f4")]))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "plain.npy").read_bytes()[:-8])
    for name in ("plain", "object", "cut", "missing", "fields"):
        with pytest.raises(InputError, match=name):
            npy.read(tmp_path / f"{name}.npy")
    assert npy.read(tmp_path / "empty.npy").frames == []


def test_frames_that_the_file_cannot_tell_apart_are_refused(tmp_path):
    with pytest.raises(InputError, match="no time"):
        npy.write(tmp_path / "a.npy", [Boxes(XYXY, np.ones(2), np.zeros(2, int), source="a.jpg")])
    other = Boxes(XYXY, np.ones(2), np.zeros(2, int), source="y", time_us=5)
    with pytest.raises(InputError, match=r"boxes of x and y; \.npy holds one recording"):
        npy.write(tmp_path / "a.npy", [_frame(5), other])
    assert list(tmp_path.iterdir()) == []
