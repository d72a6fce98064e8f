"""`evaluate` on boxes from disk: every format gives the same numbers, what does not fit is one line."""

import json
import types
from dataclasses import replace

import cv2
import numpy as np
import pytest
from golden_data import load

from jaxdet import class_names, evaluate
from jaxdet.data.images import scenes
from jaxdet.detections import files
from jaxdet.errors import InputError
from jaxdet.evaluation import labels, of_files
from jaxdet.evaluation.evaluator import evaluate as measure
from jaxdet.formats import npy, voc, yolo
from jaxdet.structs import Boxes

GEN1 = ("car", "pedestrian")


def _save(path, table):
    path.parent.mkdir(exist_ok=True)
    np.save(path, table)


@pytest.fixture
def folders(tmp_path):
    """The released evaluator's case as label files and as detections of three kinds."""
    golden = load("hmnet/evaluate")
    names = [f"rec_{i}" for i in range(sum(k.endswith("/t") for k in golden) // 2)]
    frames = []
    for i, name in enumerate(names):
        for side, place in (("gt", "labels"), ("dt", "npy")):
            columns = {k.split("/")[1]: v for k, v in golden.items() if k.startswith(f"{side}{i}/")}
            table = np.empty(len(columns["t"]), [(k, v.dtype) for k, v in columns.items()])
            for field, column in columns.items():
                table[field] = column
            _save(tmp_path / place / f"{name}_{'bbox' if side == 'gt' else 'td'}.npy", table)
        frames += [b for b in labels.of_table(table, name, name) if len(b)]
    corners = [replace(b, xyxy=b.xyxy.astype(np.float32), file_xywh=None, class_names=GEN1) for b in frames]
    for suffix in ("h5", "csv", "npz"):
        files.write(tmp_path / f"all.{suffix}", corners, GEN1)
    files.write(tmp_path / "all.json", frames, GEN1)
    return tmp_path, golden["stats"]


def _evaluate(folder, detections, *more):
    status = evaluate.main(
        [
            f"--detections={folder / detections}",
            f"--labels={folder / 'labels'}",
            f"--out={folder / 'm.json'}",
            *more,
        ]
    )
    return status, json.loads((folder / "m.json").read_text()) if status == 0 else None


def test_npy_of_any_tool_gives_the_released_numbers(folders, capsys):
    folder, expected = folders
    status, numbers = _evaluate(folder, "npy")
    assert status == 0
    np.testing.assert_allclose(list(numbers["statistics"].values()), expected, atol=1e-9, rtol=0)
    assert "Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all" in capsys.readouterr().out
    assert (folder / "m.png").exists()


def test_files_of_all_recordings_give_them_too(folders):
    folder, expected = folders
    numbers = {
        kind: _evaluate(folder, f"all.{kind}")[1]["statistics"] for kind in ("h5", "csv", "npz", "json")
    }
    np.testing.assert_allclose(list(numbers["json"].values()), expected, atol=1e-9, rtol=0)
    # Corners in float32 move a box by 1e-5 px: one at a limit of size or overlap may fall to the other side.
    np.testing.assert_allclose(list(numbers["h5"].values()), expected, atol=5e-3, rtol=0)
    assert numbers["h5"] == numbers["csv"] == numbers["npz"]


def test_boxes_in_the_clock_of_a_camera_meet_labels_from_the_start(folders):
    folder, _ = folders
    truth = labels.of_files(folder / "labels")
    starts = {boxes.source: 913_000_000 + number for number, boxes in enumerate(truth)}
    found = files.read(folder / "all.h5").frames
    late = [replace(b, time_us=b.time_us + starts[b.source]) for b in found]
    files.write(folder / "late.h5", late, GEN1)
    same = of_files.against_recordings(folder / "late.h5", truth, "hmnet", GEN1, starts_us=starts).as_json()
    alone = of_files.against_recordings(folder / "all.h5", truth, "hmnet", GEN1).as_json()
    assert same == alone


def test_a_box_without_a_time_among_others_is_named(folders):
    folder, _ = folders
    results = json.loads((folder / "all.json").read_text())
    last = max(results, key=lambda row: row["file_name"])["file_name"]
    for row in results:
        if row["file_name"] == last:
            del row["time_us"]
    (folder / "mixed.json").write_text(json.dumps(results))
    truth = labels.of_files(folder / "labels")
    with pytest.raises(InputError, match=f"{last}.* has no time"):
        of_files.against_recordings(folder / "mixed.json", truth, "hmnet", GEN1)


def test_protocols_differ(folders):
    folder, _ = folders
    values = [
        _evaluate(folder, "npy", f"--protocol={name}")[1]["statistics"]["AP"]
        for name in ("hmnet", "window50", "toolbox")
    ]
    assert len(set(values)) == 3


def test_file_names_of_the_toolbox_are_found(folders):
    folder, _ = folders
    _, usual = _evaluate(folder, "npy")
    for path in (folder / "npy").iterdir():
        path.rename(path.with_name(path.name.replace("_td", "_results_bbox")))
    _, renamed = _evaluate(folder, "npy")
    assert renamed["statistics"] == usual["statistics"]


def test_labels_of_1mpx_have_its_classes_and_sizes(tmp_path, capsys):
    table = np.zeros(4, npy.ROWS)
    table["t"], table["w"], table["h"], table["class_confidence"] = 600_000, 80, 60, 1
    table["x"], table["y"], table["class_id"] = (900, 100, 300, 500), 500, (0, 1, 1, 6)
    table["w"][1], table["h"][1] = 40, 40  # a diagonal of 56.6, below 60
    _save(tmp_path / "labels" / "a_bbox.npy", table)
    _save(tmp_path / "npy" / "a_td.npy", table)
    _, numbers = _evaluate(tmp_path, "npy")
    assert list(numbers["classes"]) == ["pedestrian", "two wheeler", "car"]
    assert (numbers["num_truth"], numbers["num_detections"]) == (2, 2)
    assert "2 of 4 labels used, left out 1 of other classes, 1 too small" in capsys.readouterr().out
    _, numbers = _evaluate(tmp_path, "npy", "--camera=1mpx_half")
    assert numbers["num_truth"] == 3
    assert _evaluate(tmp_path, "npy", "--camera=gen1")[0] == 1
    assert "class 6 found, expected 0 to 1" in capsys.readouterr().err


def test_files_without_boxes_are_legal(folders):
    folder, _ = folders
    for path in (folder / "npy").iterdir():
        np.save(path, np.zeros(0, npy.ROWS))
    status, numbers = _evaluate(folder, "npy")
    assert status == 0
    assert numbers["statistics"]["AP"] == 0


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("npy/rec_1_td.npy", "no detections for rec_1, expected rec_1_td.npy"),
        ("labels/rec_1_bbox.npy", "no labels"),
    ],
)
def test_a_missing_file_is_named_in_one_line(folders, capsys, remove, message):
    folder, _ = folders
    (folder / remove).unlink()
    status, _ = _evaluate(folder, "npy")
    error = capsys.readouterr().err
    assert status == 1
    assert message in error
    assert error.count("\n") == 1


NAMES = ("cat", "dog", "owl")
SIZE = (96, 128)


def _pictures(seed=0):
    """Labels and detections of images in two folders, the boxes as a detector gives them."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for i, source in enumerate(
        ("a/clip_0001.jpg", "a/clip_0002.jpg", "b/other_0001.jpg", "b/other_0002.jpg")
    ):
        low = rng.integers(0, 60, (6, 2))
        xyxy = np.concatenate((low, low + rng.integers(8, 36, (6, 2))), 1).astype(float)
        classes = rng.integers(0, 3, 6).astype(np.int32)
        where = {"class_names": NAMES, "source": source, "image_size": SIZE}
        truth.append(Boxes(xyxy, np.ones(6, np.float32), classes, image_id=i + 11, **where))
        moved = (np.repeat(xyxy, 2, 0) + rng.normal(0, 3, (12, 4))).astype(np.float32)
        scores = np.sort(rng.random(12).astype(np.float32))[::-1]
        found.append(Boxes(moved, scores, np.repeat(classes, 2), **where))
    return truth, found


def _statistics(metrics):
    return metrics.statistics.tolist()


@pytest.fixture
def pictures(tmp_path):
    truth, found = _pictures()
    content = {
        "images": [{"id": b.image_id, "file_name": b.source, "height": 96, "width": 128} for b in truth],
        "categories": [{"id": 2 * i + 3, "name": name} for i, name in enumerate(NAMES)],
        "annotations": [
            {"id": 10 * b.image_id + i, "image_id": b.image_id, "category_id": 2 * int(k) + 3, "bbox": row}
            for b in truth
            for i, (row, k) in enumerate(zip(b.xywh.tolist(), b.labels, strict=True))
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    return tmp_path, truth, found


@pytest.mark.parametrize("out", ["x.h5", "x.json", "x.npz", "x.csv", "x"])
def test_formats_that_hold_what_the_metric_needs_give_the_same_numbers(pictures, out):
    folder, truth, found = pictures
    in_memory = measure(found, truth, "coco", NAMES)
    assert 0.1 < in_memory.ap < 0.9
    files.write(folder / out, found, NAMES)
    metrics = of_files.of_files(folder / out, annotations=folder / "gt.json")
    assert _statistics(metrics) == _statistics(in_memory)
    assert metrics.per_class == in_memory.per_class
    assert not metrics.report


def test_the_released_pickle_gives_the_numbers_of_its_rounded_boxes(pictures):
    folder, truth, found = pictures
    files.write(folder / "x.pkl", found, NAMES)
    rounded = [
        replace(b, xyxy=b.xyxy.astype(float).round(3), scores=b.scores.astype(float).round(5)) for b in found
    ]
    metrics = of_files.of_files(folder / "x.pkl", annotations=folder / "gt.json")
    assert _statistics(metrics) == _statistics(measure(rounded, truth, "coco", NAMES))


def test_mot_text_holds_one_clip(pictures):
    folder, truth, found = pictures
    with pytest.raises(InputError, match=r"2 recordings or clips, and a \.txt holds one"):
        files.write(folder / "clip.txt", found, NAMES)
    files.write(folder / "clip.txt", found[:2], NAMES)
    metrics = of_files.of_files(folder / "clip.txt", annotations=folder / "gt.json")
    assert _statistics(metrics) == _statistics(measure(found[:2], truth, "coco", NAMES))


def test_labels_as_yolo_text_and_as_pascal_voc(pictures):
    folder, truth, found = pictures
    expected = measure(found, truth, "coco", NAMES)
    voc.write(folder / "voc", truth, NAMES, scores=False)
    read = voc.read(folder / "voc", NAMES)
    assert _statistics(measure(found, read.frames, "coco", NAMES)) == _statistics(expected)
    for boxes in truth:
        path = yolo.write_text(folder / "yolo", boxes, scores=False)
        assert len(yolo.read_labels(path, 3)) == 6
        again = yolo.read_text(path, SIZE)
        np.testing.assert_allclose(again.xyxy, boxes.xyxy, atol=1e-4)  # float32


@pytest.mark.parametrize("classes", [NAMES, NAMES[::-1], ("owl", "cow", "cat", "dog")])
def test_classes_are_matched_by_name_whatever_their_order(pictures, classes):
    folder, truth, found = pictures
    other = [
        replace(
            b, labels=np.array([classes.index(NAMES[k]) for k in b.labels], np.int32), class_names=classes
        )
        for b in found
    ]
    for out in ("x.h5", "x.json"):
        files.write(folder / out, other, classes)
        metrics = of_files.of_files(folder / out, annotations=folder / "gt.json")
        assert _statistics(metrics) == _statistics(measure(found, truth, "coco", NAMES))


def test_classes_that_are_not_labelled_are_counted_and_none_in_common_is_an_error(pictures):
    folder, _, found = pictures
    strange = replace(found[0], class_names=("cat", "cow", "owl"))
    files.write(folder / "x.h5", [strange, *found[1:]][:1], strange.class_names)
    metrics = of_files.of_files(folder / "x.h5", annotations=folder / "gt.json")
    assert (
        metrics.report.counts["detections of classes that are not evaluated"] == (found[0].labels == 1).sum()
    )
    files.write(folder / "x.h5", [replace(b, class_names=("x", "y", "z")) for b in found], ("x", "y", "z"))
    with pytest.raises(InputError, match="no class of the detections"):
        of_files.of_files(folder / "x.h5", annotations=folder / "gt.json")


def test_a_part_of_annotations_is_measured_alone(pictures):
    folder, truth, found = pictures
    files.write(folder / "x.h5", found, NAMES)
    chosen = scenes.chosen(truth, "val", "")
    assert len(chosen) == 2  # the last of either scene
    data = types.SimpleNamespace(kind="images", root=folder, test_split="gt.json#val", classes=NAMES)
    got = of_files.of_files(folder / "x.h5", data=data)
    images = {boxes.source for boxes in chosen}
    expected = measure([b for b in found if b.source in images], chosen, "coco", NAMES)
    assert _statistics(got) == _statistics(expected)
    assert got.num_images == 2


@pytest.mark.parametrize("out", ["x.h5", "x.json"])
def test_no_image_in_common_is_an_error_and_some_are_counted(pictures, out):
    folder, _, found = pictures
    moved = [replace(b, source=f"z/{i}.jpg") for i, b in enumerate(found)]
    files.write(folder / out, moved, NAMES)
    with pytest.raises(InputError, match="none of 4 images"):
        of_files.of_files(folder / out, annotations=folder / "gt.json")
    files.write(folder / out, [moved[0], *found[1:]], NAMES)
    metrics = of_files.of_files(folder / out, annotations=folder / "gt.json")
    assert metrics.report.counts == {"images with detections but without labels": 1}


def test_classes_of_coco_through_json_without_annotations(tmp_path):
    """A bear stays a bear: category ids of COCO's results are COCO's."""
    names = ("person", "bear")
    truth = Boxes(np.array([[1.0, 2, 30, 40]]), np.ones(1), np.array([1]), names, source="7.jpg", image_id=7)
    files.write(tmp_path / "x.json", [replace(truth, image_id=None)], names)
    (row,) = json.loads((tmp_path / "x.json").read_text())
    assert (row["image_id"], row["category_id"]) == (7, 23)
    categories = [{"id": i, "name": n} for i, n in zip(class_names.coco_ids(names), names, strict=True)]
    annotation = {"id": 1, "image_id": 7, "category_id": 23, "bbox": [1, 2, 29, 38]}
    content = {
        "images": [{"id": 7, "file_name": "7.jpg"}],
        "categories": categories,
        "annotations": [annotation],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    # Only what the standard knows, as other tools write it.
    plain = [{k: row[k] for k in ("image_id", "category_id", "bbox", "score")}]
    (tmp_path / "plain.json").write_text(json.dumps(plain))
    for name in ("x.json", "plain.json"):
        assert of_files.of_files(tmp_path / name, annotations=tmp_path / "gt.json").ap == pytest.approx(1)


def test_what_was_left_out_is_said_and_stored(pictures, capsys, caplog):
    folder, _, found = pictures
    content = json.loads((folder / "gt.json").read_text())
    content["annotations"][0]["bbox"] = None
    (folder / "gt.json").write_text(json.dumps(content))
    files.write(folder / "x.json", found, NAMES)
    arguments = [f"--detections={folder / 'x.json'}", f"--annotations={folder / 'gt.json'}"]
    assert evaluate.main([*arguments, f"--out={folder / 'm.json'}"]) == 0
    assert "annotation 110" in caplog.text
    stored = json.loads((folder / "m.json").read_text())["left_out"]
    assert stored == {"annotations without a bbox of four numbers": 1}


def test_results_of_other_tools_by_id(tmp_path):
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in (4, 2)],
        "categories": [{"id": 9, "name": "b"}, {"id": 3, "name": "a"}],
        "annotations": [
            {"image_id": 4, "category_id": 9, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0},
            {"image_id": 2, "category_id": 3, "bbox": [0, 0, 50, 20], "area": 1000, "iscrowd": 0},
        ],
    }
    results = [
        {"image_id": 2, "category_id": 3, "bbox": [0, 0, 50, 20], "score": 0.9},
        {"image_id": "4", "category_id": 9.0, "bbox": [10, 10, 40, 34], "score": 0.8},
    ]
    (tmp_path / "gt.json").write_text(json.dumps(content))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    metrics = of_files.of_files(tmp_path / "dt.json", annotations=tmp_path / "gt.json")
    # IoU 34 / 40 = 0.85: a hit at the eight thresholds up to 0.85, if equality counts as it does for COCO.
    assert [metrics.per_class[name]["AP"] for name in ("a", "b")] == pytest.approx([1, 0.8])


def test_labels_as_yolo_text_beside_the_images(tmp_path):
    truth, found = _pictures()
    rows = {}
    for boxes in truth:
        path = tmp_path / "images" / boxes.source
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((*SIZE, 3), np.uint8))
        text = yolo.write_text(tmp_path / "labels", boxes, scores=False)
        rows[boxes.source] = yolo.read_labels(text, 3)
    data = types.SimpleNamespace(kind="images", classes=NAMES, root=str(tmp_path), test_split="images")
    expected = measure(found, truth, "coco", NAMES)
    for out in ("x.json", "x.h5", "x"):
        files.write(tmp_path / out, found, NAMES)
        for where in ({"images": tmp_path / "images"}, {}):
            metrics = of_files.of_files(tmp_path / out, data=data, **where)
            # Labels are fractions in float32.
            np.testing.assert_allclose(metrics.statistics, expected.statistics, atol=0.02)
            assert metrics.num_truth == 24
    with pytest.raises(InputError, match="names the classes"):
        of_files.of_files(tmp_path / "x.json", images=tmp_path / "images")
    with pytest.raises(InputError, match="to compare with"):
        of_files.of_files(tmp_path / "x.json")
