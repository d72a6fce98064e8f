"""Thermal data sets as distributed, FLIR ADAS v2, HIT-UAV and LLVIP, as splits with COCO annotations.

FLIR ADAS v2:  {images,video}_{thermal,rgb}_{train,val,test}/data/*.jpg and coco.json beside data/
HIT-UAV:       normal_json/{train,val,test}/*.jpg, normal_json/annotations/{train,val,test}.json
LLVIP:         {infrared,visible}/{train,test}/NNNNNN.jpg, Annotations/NNNNNN.xml (Pascal VOC)

The json of HIT-UAV names its lists and files otherwise than COCO (`annotation`, `filename`). Its class
DontCare marks regions, which become regions of every class: detections in them are not counted.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdet import class_names
from jaxdet.data.datasets import coco_layout, ltdv2
from jaxdet.data.datasets.coco_layout import Labelled
from jaxdet.data.images import decoding
from jaxdet.errors import InputError
from jaxdet.files import finished
from jaxdet.formats import coco, voc
from jaxdet.formats.text import read_json
from jaxdet.structs import Boxes, ReadReport

logger = logging.getLogger(__name__)

FLIR_FOLDERS = {
    f"{kind}_{split}": f"{part}_{kind}_{split}"
    for kind in ("thermal", "rgb")
    for part, split in (("images", "train"), ("images", "val"), ("video", "test"))
}
HIT_UAV_SPLITS = ("train", "val", "test")
LLVIP_FOLDERS = {f"{kind}_{s}": f"{kind}/{s}" for kind in ("infrared", "visible") for s in ("train", "test")}
_DONT_CARE = "DontCare"

Splits = Iterator[tuple[str, Iterator[Labelled]]]


class ThermalSet(NamedTuple):
    """A data set: its categories by id, its splits below a folder, and what that folder must hold."""

    categories: Mapping[int, str]
    splits: Callable[[Path, ReadReport], Splits]
    expected: str


def prepare(name: str, source: str | Path, out: str | Path, link: str = "hard") -> ReadReport:
    """Prepare every split of the data set `name` (of `SETS`) that `source` has; return what was left out.

    Images are linked by default. InputError if `source` has no split of it.
    """
    dataset, left_out, num_splits = SETS[name], ReadReport(), 0
    for split, images in dataset.splits(Path(source), left_out):
        num_images = coco_layout.write_split(Path(out) / split, images, dataset.categories, link)
        logger.info("%s: %d images", split, num_images)
        num_splits += 1
    if not num_splits:
        raise InputError(f"{source}: no split of {name}; expected {dataset.expected}")
    return left_out


def _flir(source: Path, report: ReadReport) -> Splits:
    for split, folder in FLIR_FOLDERS.items():
        if (source / folder / "coco.json").is_file():
            yield split, _flir_images(source / folder, report)


def _flir_images(folder: Path, report: ReadReport) -> Iterator[Labelled]:
    # The file lists eighty categories, most of them empty and some of one name.
    categories = [{"id": number, "name": name} for number, name in class_names.FLIR_IDS.items()]
    path = folder / "coco.json"
    known = coco.annotations_of({**_object(path), "categories": categories}, path)
    report.merge(known.report)
    for path, boxes in _present(known.frames, folder, report):
        yield Labelled(path, replace(boxes, source=boxes.source.removeprefix("data/")))


def _hit_uav(source: Path, report: ReadReport) -> Splits:
    root = source / "normal_json" if (source / "normal_json").is_dir() else source
    for split in HIT_UAV_SPLITS:
        path = root / "annotations" / f"{split}.json"
        if path.is_file():
            known = read_hit_uav(path)
            report.merge(known.report)
            yield split, _present(known.frames, root / split, report)


def _present(frames: Iterable[Boxes], folder: Path, report: ReadReport) -> Iterator[Labelled]:
    """The images that are in `folder`; the others are counted."""
    for boxes in frames:
        image = folder / boxes.source
        if image.is_file():
            yield Labelled(image, boxes)
        else:
            report.add("images that are missing", where=str(image))


def read_hit_uav(path: str | Path) -> coco.Annotations:
    """Annotations of HIT-UAV, as released or with COCO's own keys; regions of DontCare are marked as crowd.

    A region stands once for each of the four classes.
    """
    content = _object(Path(path))
    if "annotation" in content:
        content = {**content, "annotations": content["annotation"]}
    images = content.get("images")
    if isinstance(images, list):
        images = [_with_file_name(row) for row in images]
    known = coco.annotations_of({**content, "images": images}, path)
    strange = set(known.class_names) - {*class_names.HIT_UAV, _DONT_CARE}
    if strange:
        expected = ", ".join((*class_names.HIT_UAV, _DONT_CARE))
        raise InputError(f"{path}: category {sorted(strange)[0]!r}, expected one of {expected}")
    frames = [_regions(boxes, known.class_names) for boxes in known.frames]
    numbers = tuple(range(len(class_names.HIT_UAV)))
    return coco.Annotations(frames, class_names.HIT_UAV, numbers, known.report)


def _with_file_name(row: Any) -> Any:
    return {"file_name": row.get("filename"), **row} if isinstance(row, dict) else row


def _regions(boxes: Boxes, names: tuple[str, ...]) -> Boxes:
    """The boxes in the four classes, every DontCare box as a region of each of them."""
    classes = class_names.HIT_UAV
    order = np.array([classes.index(name) if name in classes else -1 for name in names], np.int32)
    labels = order[boxes.labels]
    rows, regions = np.flatnonzero(labels >= 0), np.flatnonzero(labels < 0)
    taken = boxes.take(np.concatenate([rows, np.repeat(regions, len(classes))]))
    new = np.concatenate([labels[rows], np.tile(np.arange(len(classes)), len(regions))]).astype(np.int32)
    crowd = np.zeros(len(taken), bool) if taken.crowd is None else taken.crowd.copy()
    crowd[len(rows) :] = True
    return replace(taken, labels=new, crowd=crowd, class_names=classes)


def _llvip(source: Path, report: ReadReport) -> Splits:
    root = source / "LLVIP" if (source / "LLVIP").is_dir() else source
    for split, folder in LLVIP_FOLDERS.items():
        if (root / folder).is_dir():
            yield split, _llvip_images(root / folder, root / "Annotations", report)


def _llvip_images(folder: Path, annotations: Path, report: ReadReport) -> Iterator[Labelled]:
    for image in finished(folder.glob("*.jpg"), folder):
        path = annotations / f"{image.stem}.xml"
        if not path.is_file():
            report.add("images without annotations", where=str(image))
            continue
        found = voc.read(path, class_names.LLVIP)
        report.merge(found.report)
        yield Labelled(image, replace(found.frames[0], source=image.name, image_size=decoding.size_of(image)))


def _object(path: Path) -> dict[str, Any]:
    content = read_json(path, "COCO annotations")
    if not isinstance(content, dict):
        raise InputError(f"{path}: a {type(content).__name__}, expected an object with images and boxes")
    return content


SETS = {
    "flir": ThermalSet(class_names.FLIR_IDS, _flir, "images_thermal_train/coco.json and its like"),
    "hit_uav": ThermalSet(
        dict(enumerate(class_names.HIT_UAV)),
        _hit_uav,
        "normal_json/annotations/train.json and normal_json/train",
    ),
    "llvip": ThermalSet({1: "person"}, _llvip, "infrared/train and Annotations"),
    "ltdv2": ThermalSet(ltdv2.CATEGORIES, ltdv2.splits, "Train.json, Valid.json or TestNoLabels.json"),
}
