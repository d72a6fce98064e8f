"""Boxes as tables, and files of boxes by their suffix."""

import numpy as np
import pytest

from jaxdet.detections import exchange
from jaxdet.errors import InputError
from jaxdet.structs import Boxes

FRAMES = [
    Boxes(
        np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32),
        np.array([0.5, 0.25], np.float32),
        np.array([1, 0], np.int32),
        ("cat", "dog"),
        source="a/x.jpg",
    ),
    Boxes.none(class_names=("cat", "dog"), source="b/x.jpg"),
]


def test_a_table_has_a_row_a_box_with_the_name_of_its_class():
    table = exchange.to_table(FRAMES)
    assert {len(column) for column in table.values()} == {2}
    assert (table["class_name"], table["x2"], table["source"]) == (
        ["dog", "cat"],
        [3.0, 7.0],
        ["a/x.jpg"] * 2,
    )
    assert exchange.to_table(FRAMES[0]) == table


def test_what_is_written_is_read_with_its_names_and_sources(tmp_path):
    exchange.write_boxes(tmp_path / "x.h5", FRAMES)
    found = exchange.read_boxes(tmp_path / "x.h5")
    assert [(b.source, b.names) for b in found] == [("a/x.jpg", ("dog", "cat")), ("b/x.jpg", ())]


def test_supervision_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(InputError, match="pip install supervision"):
        exchange.to_supervision(FRAMES[0])
