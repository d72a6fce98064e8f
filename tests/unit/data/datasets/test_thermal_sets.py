"""FLIR, HIT-UAV, LLVIP and LTDv2: simulated in their layouts, prepared, opened as training reads them."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from jaxdet import class_names, prepare
from jaxdet.data.datasets import coco_layout, ltdv2, thermal_sets
from jaxdet.data.images import samples
from jaxdet.errors import InputError
from jaxdet.formats import coco

COUNTS = ["--train=3", "--val=2", "--test=10"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("sources")
    for name in thermal_sets.SETS:
        assert prepare.main(["synthetic", f"--layout={name}", f"--out={root / name}", *COUNTS]) == 0
    return root


def _prepared(sources, name, out):
    assert prepare.main([name, f"--source={sources / name}", f"--out={out}"]) == 0
    return out


@pytest.mark.parametrize(
    ("name", "split", "classes", "count"),
    [
        ("flir", "thermal_test", class_names.FLIR, 10),
        ("hit_uav", "val", class_names.HIT_UAV, 2),
        ("llvip", "infrared_train", class_names.LLVIP, 3),
        ("ltdv2", "train", class_names.LTDV2, 3),
    ],
)
def test_prepared_splits_open_with_their_classes(sources, tmp_path, name, split, classes, count):
    out = _prepared(sources, name, tmp_path / "out")
    found = samples.open_set(out, f"{split}/annotations.json", classes)
    assert len(found.items) == count
    assert not found.report
    assert all(cv2.imread(str(item.path)).shape[:2] == item.size for item in found.items)
    before = {path: path.stat().st_ino for path in (out / split / "images").rglob("*.jpg")}
    _prepared(sources, name, out)
    assert {path: path.stat().st_ino for path in (out / split / "images").rglob("*.jpg")} == before


def test_simulated_pictures_depend_on_the_seed_only(sources, tmp_path):
    for seed, same in ((0, True), (1, False)):
        out = tmp_path / str(seed)
        flags = [f"--out={out}", "--layout=ltdv2", f"--seed={seed}", "--train=1", "--val=0", "--test=0"]
        assert prepare.main(["synthetic", *flags]) == 0
        (picture,) = out.rglob("*.jpg")
        other = sources / "ltdv2" / picture.relative_to(out)
        assert (picture.read_bytes() == other.read_bytes()) is same


def test_simulation_does_not_write_into_a_foreign_folder(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("x")
    assert prepare.main(["synthetic", "--layout=llvip", f"--out={tmp_path}"]) == 1
    assert "not a simulation" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def _hit_uav(tmp_path, boxes, **image):
    (tmp_path / "normal_json" / "annotations").mkdir(parents=True)
    (tmp_path / "normal_json" / "train").mkdir()
    cv2.imwrite(
        str(tmp_path / "normal_json" / "train" / "0_60_30_0_00001.jpg"), np.zeros((512, 640), np.uint8)
    )
    names = (*class_names.HIT_UAV, "DontCare")
    content = {
        "images": [{"id": 7, "filename": "0_60_30_0_00001.jpg", "width": 640, "height": 512, **image}],
        "annotation": [
            {"id": i, "image_id": 7, "category_id": kind, "bbox": box} for i, (kind, box) in enumerate(boxes)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
    }
    path = tmp_path / "normal_json" / "annotations" / "train.json"
    path.write_text(json.dumps(content))
    return path


def test_dont_care_of_hit_uav_is_a_region_of_every_class(tmp_path):
    path = _hit_uav(tmp_path, [(1, [10, 10, 30, 20]), (4, [100, 100, 60, 50])])
    (boxes,) = thermal_sets.read_hit_uav(path).frames
    assert boxes.labels.tolist() == [1, 0, 1, 2, 3]
    assert boxes.crowd is not None
    assert boxes.crowd.tolist() == [False, True, True, True, True]
    thermal_sets.prepare("hit_uav", tmp_path, tmp_path / "out")
    known = coco.read_annotations(tmp_path / "out" / "train" / "annotations.json")
    assert known.class_names == class_names.HIT_UAV
    np.testing.assert_array_equal(known.frames[0].xywh, boxes.xywh)
    np.testing.assert_array_equal(known.frames[0].crowd, boxes.crowd)
    found = samples.open_set(tmp_path / "out", "train/annotations.json", class_names.HIT_UAV)
    assert len(found.labels[0]) == 1  # training sees no region


def test_a_missing_image_ends_in_status_1_unless_allowed(sources, tmp_path, capsys):
    path = _hit_uav(tmp_path, [(1, [10, 10, 30, 20])])
    content = json.loads(path.read_text())
    content["images"].append({"id": 8, "filename": "gone.jpg", "width": 640, "height": 512})
    path.write_text(json.dumps(content))
    flags = ["hit_uav", f"--source={tmp_path}", f"--out={tmp_path / 'out'}"]
    assert prepare.main(flags) == 1
    assert "--allow_missing" in capsys.readouterr().err
    assert prepare.main([*flags, "--allow_missing"]) == 0


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path):
    _hit_uav(tmp_path, [(1, [10, 10, 30, 20])], filename="../train/0_60_30_0_00001.jpg")
    with pytest.raises(InputError, match="names no file"):
        thermal_sets.prepare("hit_uav", tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="no split of flir"):
        thermal_sets.prepare("flir", tmp_path, tmp_path / "out")


def test_two_images_of_one_name_are_refused(tmp_path):
    _hit_uav(tmp_path, [(1, [10, 10, 30, 20])])
    images = next(thermal_sets.SETS["hit_uav"].splits(tmp_path, thermal_sets.ReadReport()))[1]
    (image,) = images
    with pytest.raises(InputError, match="a second image"):
        coco_layout.write_split(tmp_path / "out", [image, image], {1: "Person"})


def test_uids_of_ltdv2():
    # The example of the board's template: clip 21 of 14 May 2020 at 22:40:46.
    assert ltdv2.decode("20200502114224046") == (2020, 5, 21, 14, 22, 40, 46)
    assert ltdv2.interval_of(20200502114224046) == "May"
    assert ltdv2.interval_of("20200900101000000") is None
    for wrong in ("2020050211422404", "20201302114224046", "20200502100224046", "x"):
        with pytest.raises(InputError, match="17 digits"):
            ltdv2.decode(wrong)


def test_background_and_other_names_of_ltdv2(sources, tmp_path):
    known = ltdv2.read_annotations(sources / "ltdv2" / "Train.json")
    assert known.class_names == class_names.LTDV2
    assert known.category_ids == (1, 2, 3, 4)
    content = json.loads((sources / "ltdv2" / "Train.json").read_text())
    content["categories"][1]["name"] = "vehicle"
    (tmp_path / "wrong.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="category 1 is 'vehicle', expected person"):
        ltdv2.read_annotations(tmp_path / "wrong.json")
    for categories in (3, 0.5, {"id": 1}, [{"id": [1], "name": "x"}], [None]):
        (tmp_path / "odd.json").write_text(json.dumps({**content, "categories": categories}))
        assert len(ltdv2.read_annotations(tmp_path / "odd.json").frames) == len(known.frames)


@pytest.mark.data
def test_real_frames_of_hit_uav_in_the_released_layout(tmp_path):
    real = Path(os.environ.get("JAXDET_REAL_DATA", "")) / "thermal" / "hit_uav" / "persons_60m"
    if not real.is_dir():
        pytest.skip("JAXDET_REAL_DATA holds no HIT-UAV")
    content = json.loads((real / "annotations.json").read_text())
    content["annotation"] = content.pop("annotations")
    for row in content["images"]:
        row["filename"] = row.pop("file_name")
    root = tmp_path / "normal_json"
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "val.json").write_text(json.dumps(content))
    (root / "val").symlink_to(real / "images")
    thermal_sets.prepare("hit_uav", tmp_path, tmp_path / "out", "copy")
    found = samples.open_set(tmp_path / "out", "val/annotations.json", class_names.HIT_UAV)
    regions = sum(row["category_id"] == 4 for row in content["annotation"])
    assert len(found.items) == len(content["images"])
    assert sum(map(len, found.labels)) == len(content["annotation"]) - regions
