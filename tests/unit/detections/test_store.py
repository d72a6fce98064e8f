"""The detections file and the foreign layouts."""

import json

import numpy as np
import pytest

from jaxdet.detections import foreign, store
from jaxdet.errors import InputError
from jaxdet.evaluation import coco

BOXES = np.array([[1, 2, 30, 40], [5, 6, 7.5, 8.25]], np.float32)


def _write(path, key="t_us"):
    keys = (5_000, 10_000, 15_000) if key == "t_us" else ("a.jpg", "b.jpg", "ü c.jpg")
    with store.create(path, ["car", "pedestrian"], key, {"model": "b3"}) as writer:
        writer.append("one", keys[0], (304, 240), BOXES, [0.9, 0.5], [0, 1])
        writer.append("two/x", keys[0], (304, 240), BOXES[:1], [0.3], [1])
        writer.append("one", keys[1], (304, 240), [], [], [])
        writer.append("one", keys[2], (304, 240), BOXES[1:], [0.25], [1])
        writer.add_clip("nothing")
    return keys


@pytest.mark.parametrize("key", ["t_us", "name"])
def test_what_is_appended_is_read(tmp_path, key):
    keys = _write(tmp_path / "a.h5", key)
    with store.read(tmp_path / "a.h5") as reader:
        assert reader.names == ["nothing", "one", "two/x"]
        assert (reader.key, reader.class_names, reader.metadata) == (
            key,
            ("car", "pedestrian"),
            {"model": "b3"},
        )
        clip = reader.clip("one")
        assert list(clip.keys) == list(keys)
        np.testing.assert_array_equal(clip.frame(0)[0], BOXES)
        assert len(clip.frame(1)[0]) == 0
        assert clip.frame(2)[1].tolist() == [0.25]
        assert clip.sizes.tolist() == [[304, 240]] * 3
        assert len(reader.clip("nothing").keys) == 0
        with pytest.raises(InputError, match="no detections of three"):
            reader.clip("three")


def test_long_streams_pass_through_the_buffer(tmp_path):
    with store.create(tmp_path / "a.h5", ["car"], "t_us") as writer:
        for step in range(5_000):
            writer.append("one", step, (304, 240), BOXES[: step % 2], [0.5][: step % 2], [0][: step % 2])
            assert len(writer._frames) <= 2048
    with store.read(tmp_path / "a.h5") as reader:
        clip = reader.clip("one")
        assert np.array_equal(clip.keys, np.arange(5_000))
        assert np.array_equal(np.diff(clip.starts), np.arange(5_000) % 2)


def test_an_interrupted_file_does_not_appear(tmp_path):
    def interrupted():
        with store.create(tmp_path / "a.h5", ["car"], "t_us") as writer:
            writer.append("one", 0, (1, 1), [], [], [])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_clip_of_frames_equals_what_is_read(tmp_path):
    keys = _write(tmp_path / "a.h5")
    made = store.clip(
        [
            (keys[0], (304, 240), BOXES, [0.9, 0.5], [0, 1]),
            (keys[1], (304, 240), [], [], []),
            (keys[2], (304, 240), BOXES[1:], [0.25], [1]),
        ]
    )
    with store.read(tmp_path / "a.h5") as reader:
        for a, b in zip(made, reader.clip("one")):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
    assert len(store.clip([]).boxes) == 0


def test_bad_rows_and_files_are_named(tmp_path):
    with store.create(tmp_path / "a.h5", ["car"], "t_us") as writer:
        with pytest.raises(InputError, match="not finite"):
            writer.append("one", 0, (1, 1), [[0, 0, 1, np.nan]], [1], [0])
        with pytest.raises(InputError, match="1 boxes, 2 scores"):
            writer.append("one", 0, (1, 1), [[0, 0, 1, 1]], [1, 1], [0])
    (tmp_path / "b.h5").write_bytes(b"no HDF5 at all")
    for name, message in (("b.h5", "not an HDF5 file"), ("c.h5", "no such file")):
        with pytest.raises(InputError, match=message), store.read(tmp_path / name):
            pass


def test_released_table_has_the_released_layout(tmp_path):
    assert foreign.RELEASED.itemsize == 40
    clip = store.clip(
        [(5_000, (304, 240), BOXES, [0.9, 0.5], [0, 1]), (10_000, (304, 240), BOXES[1:], [0.2], [1])]
    )
    foreign.write_table(tmp_path / "x_td.npy", foreign.released(clip))
    table = foreign.read_table(tmp_path / "x_td.npy")
    assert table.dtype == foreign.RELEASED
    assert table["t"].tolist() == [5_000, 5_000, 10_000]
    assert table["w"].tolist() == [29, 2.5, 2.5]
    assert table["class_id"].tolist() == [0, 1, 1]
    foreign.write_table(tmp_path / "e.npy", foreign.released(store.clip([])))
    assert len(foreign.read_table(tmp_path / "e.npy")) == 0


def test_a_table_written_in_pieces_is_the_table(tmp_path):
    clip = store.clip([(k * 5_000, (304, 240), BOXES, [0.9, 0.5], [0, 1]) for k in range(600)])
    table = foreign.released(clip)
    foreign.write_table(tmp_path / "whole.npy", table)
    for name, pieces in (("pieces.npy", np.array_split(table, 7)), ("empty.npy", [])):
        with foreign.open_table(tmp_path / name) as append:
            for piece in pieces:
                append(piece)
    assert (tmp_path / "pieces.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert foreign.read_table(tmp_path / "empty.npy").dtype == foreign.RELEASED


def test_tables_that_are_none_are_refused(tmp_path):
    np.save(tmp_path / "plain.npy", np.zeros((3, 2)))
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "empty.npy", np.zeros((0,)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "plain.npy").read_bytes()[:-8])
    for name in ("plain", "object", "cut", "missing"):
        with pytest.raises(InputError, match=name):
            foreign.read_table(tmp_path / f"{name}.npy")
    assert len(foreign.read_table(tmp_path / "empty.npy")) == 0


def test_coco_files_round_trip(tmp_path):
    content = {
        "images": [
            {"id": 7, "file_name": "b.jpg", "width": 20, "height": 10},
            {"id": 3, "file_name": "a.jpg"},
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [{"image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4], "iscrowd": 1}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    labels = foreign.read_coco_labels(tmp_path / "gt.json")
    assert labels.file_names == ("a.jpg", "b.jpg")
    assert labels.class_names == ("cat", "dog")
    assert (labels.boxes.image[0], labels.boxes.labels[0], labels.boxes.area[0]) == (1, 1, 12)
    clip = store.clip([("a.jpg", (1, 1), [], [], []), ("b.jpg", (20, 10), BOXES, [0.9, 0.5], [0, 1])])
    foreign.write_coco_results(tmp_path / "dt.json", clip, labels.image_ids, labels.category_ids)
    found = foreign.read_coco_results(tmp_path / "dt.json", labels)
    assert isinstance(found, coco.Boxes)
    assert found.image.tolist() == [1, 1]
    np.testing.assert_array_equal(found.xywh, [[1, 2, 29, 38], [5, 6, 2.5, 2.25]])
    (tmp_path / "dt.json").write_text('[{"image_id": 4, "category_id": 2, "bbox": [0,0,1,1], "score": 1}]')
    with pytest.raises(InputError, match="image 4 is not in the list of 2"):
        foreign.read_coco_results(tmp_path / "dt.json", labels)


def test_yolo_text_round_trips(tmp_path):
    clip = store.clip([("a.jpg", (304, 240), BOXES, [0.9, 0.5], [0, 1]), ("b.jpg", (304, 240), [], [], [])])
    foreign.write_yolo_text(tmp_path, clip)
    boxes, scores, labels = foreign.read_yolo_text(tmp_path / "a.txt", (304, 240))
    np.testing.assert_allclose(boxes, BOXES, atol=304 * 1e-6)  # six decimals of a fraction
    np.testing.assert_allclose(scores, [0.9, 0.5], atol=1e-5)
    assert labels.tolist() == [0, 1]
    assert len(foreign.read_yolo_text(tmp_path / "b.txt", (304, 240))[0]) == 0
    (tmp_path / "c.txt").write_text("0 1 2\n")
    with pytest.raises(InputError, match=r"c\.txt"):
        foreign.read_yolo_text(tmp_path / "c.txt", (304, 240))
