"""`evaluate` on boxes from disk: every layout gives the same numbers, a missing file is named."""

import json

import numpy as np
import pytest
from golden_data import load

from jaxdet import evaluate
from jaxdet.detections import foreign, store


@pytest.fixture
def folders(tmp_path):
    """The released evaluator's case as label files and as detections of three kinds."""
    golden = load("hmnet/evaluate")
    names = [f"rec_{i}" for i in range(sum(k.endswith("/t") for k in golden) // 2)]
    with store.create(tmp_path / "all.h5", ["car", "pedestrian"], "t_us") as writer:
        for i, name in enumerate(names):
            truth, found = (
                {k.split("/")[1]: v for k, v in golden.items() if k.startswith(f"{s}{i}/")}
                for s in ("gt", "dt")
            )
            table = np.empty(len(truth["t"]), [(k, v.dtype) for k, v in truth.items()])
            for field, column in truth.items():
                table[field] = column
            foreign.write_table(tmp_path / "labels" / f"{name}_bbox.npy", table)
            xywh = np.stack([found[k] for k in "xywh"], 1).astype(np.float64)
            boxes = np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), 1)
            rows = foreign.released_rows(found["t"], boxes, found["class_confidence"], found["class_id"])
            rows["w"], rows["h"] = found["w"], found["h"]
            foreign.write_table(tmp_path / "npy" / f"{name}_td.npy", rows)
            for t in np.unique(found["t"]):
                at = found["t"] == t
                writer.append(
                    name, t, (304, 240), boxes[at], found["class_confidence"][at], found["class_id"][at]
                )
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


def test_the_detections_file_agrees_to_its_precision(folders):
    folder, expected = folders
    _, numbers = _evaluate(folder, "all.h5")
    # Corners in float32 move a box by 1e-5 px: one at a limit of size or overlap may fall to the other side.
    np.testing.assert_allclose(list(numbers["statistics"].values()), expected, atol=5e-3, rtol=0)


def test_protocols_differ(folders):
    folder, _ = folders
    values = [
        _evaluate(folder, "npy", f"--protocol={name}")[1]["statistics"]["AP"]
        for name in ("hmnet", "rvt", "toolbox")
    ]
    assert len(set(values)) == 3


def test_files_without_boxes_are_legal(folders):
    folder, _ = folders
    for path in (folder / "npy").iterdir():
        np.save(path, np.zeros(0, foreign.RELEASED))
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


def test_results_of_images_by_json_and_by_file(tmp_path):
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in (4, 2)],
        "categories": [{"id": 9, "name": "b"}, {"id": 3, "name": "a"}],
        "annotations": [
            {"image_id": 4, "category_id": 9, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0},
            {"image_id": 2, "category_id": 3, "bbox": [0, 0, 50, 20], "area": 1000, "iscrowd": 0},
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    labels = foreign.read_coco_labels(tmp_path / "gt.json")
    frames = [
        ("2.jpg", (100, 100), [[0, 0, 50, 20]], [0.9], [0]),
        ("4.jpg", (100, 100), [[10, 10, 50, 44]], [0.8], [1]),
    ]
    clip = store.clip(frames)
    foreign.write_coco_results(tmp_path / "dt.json", clip, labels.image_ids, labels.category_ids)
    with store.create(tmp_path / "dt.h5", labels.class_names, "name") as writer:
        writer.append_clip("images", clip)
    values = []
    for name in ("dt.json", "dt.h5"):
        out = tmp_path / "m.json"
        arguments = [
            f"--detections={tmp_path / name}",
            f"--annotations={tmp_path / 'gt.json'}",
            f"--out={out}",
        ]
        assert evaluate.main(arguments) == 0
        values.append(json.loads(out.read_text())["classes"])
    assert values[0] == values[1]
    # IoU 34 / 40 = 0.85: a hit at the eight thresholds up to 0.85, if equality counts as it does for COCO.
    assert [v["AP"] for v in values[0].values()] == pytest.approx([1, 0.8])
