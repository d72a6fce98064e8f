"""Label files of PKU-DAVIS-SOD by hand."""

import json

import pytest

from jaxdet.data.datasets import pku_davis_sod
from jaxdet.data.events.label_files import Classes
from jaxdet.errors import InputError
from jaxdet.structs import ReadReport


def test_boxes_are_corners_in_any_order_and_shapes_of_other_kinds_are_counted(tmp_path):
    shapes = [
        {"label": "2", "points": [[30, 4.5], [10, 24.5]]},
        {"lable": 3, "points": [[1, 2], [3, 5]]},
        {"label": "4", "points": [[1, 2], [3, 5]]},
        {"label": "1", "points": [[1, 2], [3, 5], [6, 7]]},
        {"label": "1", "points": [[1, 2], [3, float("nan")]]},
        "a shape",
    ]
    (tmp_path / "7.json").write_text(json.dumps({"shapes": shapes}))
    report = ReadReport()
    found = pku_davis_sod.read_boxes(tmp_path / "7.json", report)
    assert found == [(10, 4.5, 20, 20, 2), (1, 2, 2, 3, 3)]
    assert sum(report.counts.values()) == 4
    (tmp_path / "8.json").write_text("[]")
    with pytest.raises(InputError, match="expected boxes of a frame"):
        pku_davis_sod.read_boxes(tmp_path / "8.json", report)


def test_a_hidden_recording_which_no_reader_would_find_is_a_problem(tmp_path):
    for name in ("1", ".2"):
        events = tmp_path / "raw" / "train" / "normal" / f"{name}.aedat4"
        events.parent.mkdir(parents=True, exist_ok=True)
        events.touch()
        (tmp_path / "annotations" / "train" / "normal" / name).mkdir(parents=True)
    found = pku_davis_sod.find(tmp_path, Classes(pku_davis_sod.CLASSES["3"]))
    assert [source.name for source in found.sources] == ["1"]
    (problem,) = found.problems
    assert "begins with a dot" in problem
