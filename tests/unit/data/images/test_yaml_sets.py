"""Data sets described by `data.yaml`, in the layouts of ultralytics and Roboflow."""

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxdet.data.images import samples, yaml_sets
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
    assert set(yaml_sets.apply(config, tmp_path / "data.yaml")) == {"train", "val"}
    assert config.classes == ("car", "person")
    splits = (config.train_split, config.validation_split, config.test_split)
    assert [_opened(config, split) for split in splits] == [["t.png"], ["v.png"], ["v.png"]]


def test_the_layout_of_roboflow(tmp_path):
    for split in ("train", "valid", "test"):
        _image(tmp_path, f"{split}/images", f"{split}/labels", split[0])
    splits = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    (tmp_path / "data.yaml").write_text(splits + "nc: 2\nnames: ['car', 'person']\n")
    config = _block()
    yaml_sets.apply(config, tmp_path / "data.yaml")
    splits = (config.train_split, config.validation_split, config.test_split)
    assert [_opened(config, split) for split in splits] == [["t.png"], ["v.png"], ["t.png"]]


def test_lists_start_at_the_root(tmp_path):
    _image(tmp_path, "images/train", "labels/train", "t")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text("./images/train/t.png\n")
    (tmp_path / "data.yaml").write_text("train: lists/train.txt\nnames: [car, person]\n")
    config = _block()
    yaml_sets.apply(config, tmp_path / "data.yaml")
    assert _opened(config, config.train_split) == ["t.png"]
    with pytest.raises(InputError, match=r"val, which data\.yaml does not name"):
        _opened(config, config.validation_split)


def test_classes_of_weights_stay(tmp_path):
    (tmp_path / "data.yaml").write_text("val: images\nnames: [Car, Person]\n")
    config = _block()
    config.classes = ("car", "person")
    yaml_sets.apply(config, tmp_path / "data.yaml", fixed_classes=True)
    assert config.classes == ("car", "person")
    config.classes = ("person", "car")
    with pytest.raises(InputError, match="in the same order"):
        yaml_sets.apply(config, tmp_path / "data.yaml", fixed_classes=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "train: a",
        "train: a\nnames: 3",
        "train: a\nnames: [x, x]",
        "train: a\nnames: {1: x}",
        "train: a\nnames: {0: x, 2: y}",
        "train: a\nnames: [x]\nnc: 2",
        "train: 3\nnames: [x]",
        "train: [a, b]\nnames: [x]",
        "names: [x]",
        "path: [a]\ntrain: a\nnames: [x]",
        "a: &a [x, x]\nb: &b [*a, *a]\nnames: *b\ntrain: a",
        "train: !!python/object/apply:os.getcwd []\nnames: [x]",
        "? [a]\n: b",
        "[" * 3000,
    ],
)
def test_what_describes_no_set_is_one_line(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=r"data\.yaml: .*"):
        yaml_sets.read(tmp_path / "data.yaml")
