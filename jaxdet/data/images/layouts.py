"""Labelled sets of images as tools leave them: their splits and class names, found by looking.

A set is a `data.yaml`, a file of COCO annotations, or a folder. A folder has a `data.yaml`, or for each split
one of `<split>/annotations.json`, `<split>/_annotations.coco.json` (Roboflow), `annotations/<split>.json`,
`annotations/instances_<split>*.json` (COCO), `<split>.json`, `<split>.txt`, `<split>/images` (Roboflow),
`images/<split>` (ultralytics) or `<split>` with images and labels side by side; or the same without splits.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxdet.data.images import scenes, sets, yaml_sets
from jaxdet.data.images.yaml_sets import ImageSet
from jaxdet.errors import InputError
from jaxdet.formats import coco
from jaxdet.formats.coco_ids import order_of
from jaxdet.formats.text import read_text, shown

logger = logging.getLogger(__name__)

_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_NAMES = ("classes.txt", "obj.names", "labels/classes.txt", "_darknet.labels", "train/_darknet.labels")
_EXPECTED = "a data.yaml, COCO annotations, or a folder of images and labels"


def read(path: str | os.PathLike) -> ImageSet:
    """Splits and class names of the set at `path`; a set without splits has the split "all".

    Classes are those that the data names: of `data.yaml`, of categories of COCO that have boxes, of
    `classes.txt` or `obj.names`; labels without names are counted. Raises InputError for anything else.
    """
    path = Path(path).absolute()
    if path.suffix.lower() in (".yaml", ".yml"):
        return yaml_sets.read(path)
    if path.suffix.lower() == ".json":
        return ImageSet({"all": _annotated(path)}, _categories([path]))
    if not path.is_dir():
        raise InputError(f"{path}: no such folder or file; expected {_EXPECTED}")
    described = next((p for p in (path / "data.yaml", path / "dataset.yaml") if p.is_file()), None)
    if described is not None:
        return yaml_sets.read(described)
    found = {split: place for split in _SPLITS if (place := _split(path, _SPLITS[split])) is not None}
    splits = found if "train" in found else {"all": _whole(path)}
    files = [Path(place.rpartition(":")[0]) for place in splits.values() if _is_coco(place)]
    return ImageSet(splits, _categories(files) if files else _named(path, splits))


def apply(
    config: Any,
    path: str | os.PathLike,
    fixed_classes: bool = False,
    class_map: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Put root, splits and classes of the set at `path` into a data block; return the splits by name.

    `class_map` gives categories of COCO annotations other names.

    Without val the test split validates, and without both the scenes of the training images are divided
    (`scenes`). With `fixed_classes`, those of trained weights, numbered labels of other names or of another
    order are an InputError.
    """
    found = read(path)
    names = found.class_names
    numbered = not any(_is_coco(place) for place in found.splits.values())
    if not numbered:
        renamed = {name.casefold(): to for name, to in (class_map or {}).items()}
        names = tuple(dict.fromkeys(renamed.get(name.casefold(), name) for name in names))
    folded = [[name.casefold() for name in known] for known in (names, config.classes)]
    if fixed_classes and numbered and folded[0] != folded[1]:
        raise InputError(
            f"{path}: classes {shown(', '.join(names))}, those of the model are "
            f"{shown(', '.join(config.classes))}; expected the same in the same order"
        )
    splits = dict(found.splits)
    if "train" not in splits and "all" not in splits:
        splits["train"] = f"train, which {Path(path).name} does not name"
    if not splits.keys() & {"val", "test"}:
        whole = splits.pop("train", "") or splits["all"]
        splits |= {part: f"{whole}#{part}" for part in scenes.PARTS}
        logger.info("%s names no validation images: a fifth of them is held out, by scene", path)
    config.root = str(Path(path if Path(path).is_dir() else Path(path).parent).absolute())
    config.train_split = splits["train"]
    config.validation_split = splits.get("val", splits.get("test", ""))
    config.test_split = splits.get("test", config.validation_split)
    if not fixed_classes:
        config.classes = names
    return splits


def _is_coco(place: str) -> bool:
    """True if a split is a file of COCO annotations, with or without the folder of its images."""
    return place.endswith(".json") or ".json:" in place


def _annotated(file: Path) -> str:
    """The split of a file of annotations: the first folder that may hold its images, or else its own."""
    above = file.parent.parent if file.parent.name == "annotations" else file.parent
    stem = file.stem.removeprefix("instances_")
    places = (file.parent / "images", above / stem, above / "images" / stem, above / "images")
    folder = next((place for place in places if place.is_dir()), file.parent)
    return f"{file}:{folder}"


def _split(root: Path, spellings: tuple[str, ...]) -> str | None:
    """The place of a split in a folder; None if it has no such split."""
    for name in spellings:
        files = (
            root / name / "annotations.json", root / name / "_annotations.coco.json",
            root / "annotations" / f"{name}.json", *sorted(root.glob(f"annotations/instances_{name}*.json")),
            root / f"{name}.json",
        )  # fmt: skip
        annotated = next((file for file in files if file.is_file()), None)
        if annotated is not None:
            return _annotated(annotated)
        places = (root / f"{name}.txt", root / name / "images", root / "images" / name, root / name)
        place = next((place for place in places if place.exists()), None)
        if place is not None:
            return str(place)
    return None


def _whole(root: Path) -> str:
    """The place of a set without splits."""
    files = [root / "annotations.json", root / "_annotations.coco.json", *sorted(root.glob("*.json"))]
    files = [file for file in files if file.is_file() and _is_annotation(file)]
    if files:
        return _annotated(files[0])
    return str(root / "images" if (root / "images").is_dir() else root)


def _is_annotation(file: Path) -> bool:
    with open(file, "rb") as opened:
        return b'"images"' in (head := opened.read(1 << 16)) or b'"annotations"' in head


def _categories(files: list[Path]) -> tuple[str, ...]:
    """Names of the categories that have boxes in any of the files, in the order of their ids."""
    found: dict[Any, str] = {}
    for file in files:
        known = coco.read_annotations(file)
        used = {int(label) for boxes in known.frames for label in boxes.labels}
        for label, (number, name) in enumerate(zip(known.category_ids, known.class_names, strict=True)):
            if label in used and found.setdefault(number, name) != name:
                raise InputError(
                    f"{file}: category {number} is {shown(name)}, in another split {shown(found[number])}"
                )
    if not found:
        raise InputError(f"{files[0]}: no category has a box; expected boxes to learn")
    return tuple(dict.fromkeys(found[number] for number in sorted(found, key=order_of)))


def _named(root: Path, splits: dict[str, str]) -> tuple[str, ...]:
    """Class names of numbered labels, by a file that names them or else by their largest number."""
    file = next((root / name for name in _NAMES if (root / name).is_file()), None)
    if file is not None:
        lines = read_text(file, "names of classes").splitlines()
        found = tuple(line.strip() for line in lines if line.strip())
        if not found or len(set(found)) < len(found):
            raise InputError(f"{file}: {shown(', '.join(found))}; expected different names of classes")
        return found
    most = max((number for place in splits.values() for number in _numbers(place)), default=-1)
    if most < 0:
        raise InputError(f"{root}: no labelled image; expected {_EXPECTED}")
    logger.warning("%s: no %s names the classes, they are class_0, ...", root, " or ".join(_NAMES[:2]))
    return tuple(f"class_{number}" for number in range(most + 1))


def _numbers(place: str) -> Iterator[int]:
    """Numbers of the classes of all labels of a split."""
    for item in sets.open_input(place):
        file = sets.label_path(item.path)
        lines = read_text(file, "labels").splitlines() if file.is_file() else []
        words = (line.split(maxsplit=1)[0] for line in lines if line.strip())
        yield from (int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 5)
