"""Data sets in the layouts of ultralytics, Roboflow, COCO and labelling tools."""

import json

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxdet.data.images import layouts, samples
from jaxdet.errors import InputError


def _image(root, images, labels, name):
    for folder in (images, labels):
        (root / folder).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / images / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
    (root / labels / f"{name}.txt").write_text("1 .5 .5 .5 .5\n")


def _block():
    return ConfigDict(
        {"root": "", "classes": ("a",), "train_split": "", "validation_split": "", "test_split": ""}
    )


def _opened(config, split):
    return [item.path.name for item in samples.open_split(config, split).items]


def test_the_layout_of_ultralytics(tmp_path):
    _image(tmp_path / "set", "images/train", "labels/train", "t")
    _image(tmp_path / "set", "images/val", "labels/val", "v")
    text = "path: set\ntrain: images/train # 1 image\nval: [images/val]\nnames:\n  0: car\n  1: person\n"
    (tmp_path / "data.yaml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    config = _block()
    assert set(layouts.apply(config, tmp_path / "data.yaml")) == {"train", "val"}
    assert config.classes == ("car", "person")
    splits = (config.train_split, config.validation_split, config.test_split)
    assert [_opened(config, split) for split in splits] == [["t.png"], ["v.png"], ["v.png"]]


def test_the_layout_of_roboflow(tmp_path):
    for split in ("train", "valid", "test"):
        _image(tmp_path, f"{split}/images", f"{split}/labels", split[0])
    splits = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    (tmp_path / "data.yaml").write_text(splits + "nc: 2\nnames: ['car', 'person']\n")
    config = _block()
    layouts.apply(config, tmp_path / "data.yaml")
    splits = (config.train_split, config.validation_split, config.test_split)
    assert [_opened(config, split) for split in splits] == [["t.png"], ["v.png"], ["t.png"]]


def test_lists_start_at_the_root(tmp_path):
    _image(tmp_path, "images/train", "labels/train", "t")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text("./images/train/t.png\n")
    (tmp_path / "data.yaml").write_text("train: lists/train.txt\nnames: [car, person]\n")
    config = _block()
    layouts.apply(config, tmp_path / "data.yaml")
    assert _opened(config, config.train_split) == ["t.png"]
    (tmp_path / "data.yaml").write_text("val: lists/train.txt\nnames: [car, person]\n")
    layouts.apply(config, tmp_path / "data.yaml")
    with pytest.raises(InputError, match=r"train, which data\.yaml does not name"):
        _opened(config, config.train_split)


def test_classes_of_weights_stay(tmp_path):
    (tmp_path / "data.yaml").write_text("val: images\nnames: [Car, Person]\n")
    config = _block()
    config.classes = ("car", "person")
    layouts.apply(config, tmp_path / "data.yaml", fixed_classes=True)
    assert config.classes == ("car", "person")
    config.classes = ("person", "car")
    with pytest.raises(InputError, match="in the same order"):
        layouts.apply(config, tmp_path / "data.yaml", fixed_classes=True)


def _annotated(file, names, categories, used):
    """COCO annotations of images of `names`, a box each, of the categories in turn."""
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    rows = [
        {"image_id": i, "category_id": used[i % len(used)], "bbox": [1, 1, 4, 4]} for i in range(len(names))
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    known = [{"id": number, "name": name} for number, name in categories.items()]
    file.write_text(json.dumps({"images": images, "annotations": rows, "categories": known}))


def _pictures(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), np.uint8))


YEAR = ["train2017", "val2017"]
CATEGORIES = {0: "root", 1: "person", 2: "deer", 10: "bike"}


@pytest.mark.parametrize(
    ("files", "folders"),
    [
        (["train/_annotations.coco.json", "valid/_annotations.coco.json"], ["train", "valid"]),
        (["train/annotations.json", "val/annotations.json"], ["train/images", "val/images"]),
        (
            ["annotations/instances_train2017.json", "annotations/instances_val2017.json"],
            ["train2017", "val2017"],
        ),
        (["train.json", "val.json"], ["images", "images"]),
    ],
)
def test_annotations_lie_beside_their_images_and_name_the_classes(tmp_path, files, folders):
    for file, folder, name in zip(files, folders, ("t.png", "v.png"), strict=True):
        _pictures(tmp_path / folder, [name])
        _annotated(tmp_path / file, [name], CATEGORIES, [10] if name == "t.png" else [1])
    config = _block()
    layouts.apply(config, tmp_path)
    assert config.classes == ("person", "bike")  # in the order of the ids; the others have no boxes
    splits = (config.train_split, config.validation_split, config.test_split)
    assert [_opened(config, split) for split in splits] == [["t.png"], ["v.png"], ["v.png"]]
    config = _block()
    layouts.apply(config, tmp_path, class_map={"Bike": "bicycle"})
    assert config.classes == ("person", "bicycle")
    config.classes = ("bike", "person")
    layouts.apply(config, tmp_path, fixed_classes=True)  # annotations are matched by name
    assert config.classes == ("bike", "person")


@pytest.mark.parametrize("given", ["folder", "file", "yaml"])
def test_a_set_without_splits_is_divided_by_scene(tmp_path, given, caplog):
    names = [f"clip_{scene}_{frame:03d}.png" for scene in range(10) for frame in range(3)]
    if given == "yaml":
        for name in names:
            _image(tmp_path, "images", "labels", name[:-4])
        (tmp_path / "data.yaml").write_text("train: images\nnames: [car, person]\n")
    else:
        _pictures(tmp_path / "images", names)
        _annotated(tmp_path / "all.json", names, {1: "car", 2: "person"}, [1, 2])
    config, path = (
        _block(),
        {"folder": tmp_path, "file": tmp_path / "all.json", "yaml": tmp_path / "data.yaml"},
    )
    with caplog.at_level("INFO"):
        layouts.apply(config, path[given])
        train, val = (_opened(config, split) for split in (config.train_split, config.validation_split))
    assert config.classes == ("car", "person")
    assert sorted(train + val) == sorted(names)
    assert len(val) == 6
    assert not {name[:6] for name in train} & {name[:6] for name in val}
    assert "a fifth of them is held out, by scene" in caplog.text
    assert "6 of 30 images validate: 2 of 10 scenes validate" in caplog.text


def test_numbered_labels_take_their_names_from_a_file_beside_them(tmp_path, caplog):
    for number in range(5):
        _image(tmp_path, "images", "labels", f"street_{number}")
    assert layouts.read(tmp_path).class_names == ("class_0", "class_1")
    assert "no classes.txt or obj.names names the classes" in caplog.text
    (tmp_path / "labels" / "classes.txt").write_bytes(b"\xef\xbb\xbfcar\r\nperson\r\n\r\n")
    assert layouts.read(tmp_path).class_names == ("car", "person")
    (tmp_path / "classes.txt").write_text("car\ncar\n")
    with pytest.raises(InputError, match="expected different names"):
        layouts.read(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "empty", "no.json", "list.json"])
def test_what_is_no_set_is_one_line(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="expected"):
        layouts.read(tmp_path / name)


def test_one_category_of_two_names_is_refused(tmp_path):
    for split, name in (("train", "car"), ("val", "person")):
        _pictures(tmp_path / split, ["x.png"])
        _annotated(tmp_path / split / "_annotations.coco.json", ["x.png"], {1: name}, [1])
    with pytest.raises(InputError, match="category 1 is 'person', in another split 'car'"):
        layouts.read(tmp_path)
