"""COCO JSON: annotations (images, categories, boxes) and results (a list of boxes with scores).

Ids are numbers; as pycocotools does, 7, 7.0 and, beyond it, the text "7" are taken as one id, other text as
itself. A row that cannot be read is left out and counted. A file whose rows are all left out is an
InputError.

Results that this module writes hold more than the standard asks for, which other readers ignore:
`category_name`, and `file_name`, `frame`, `time_us` and `track_id` where the boxes have them. They make a
file of results mean the same without the annotations it was predicted for.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jaxdet import class_names as names_of
from jaxdet.errors import InputError
from jaxdet.files import atomic
from jaxdet.formats import BoxFile
from jaxdet.formats.coco_ids import Id, classes_of, image_ids, order_of, same_id
from jaxdet.formats.text import number, read_json, shown
from jaxdet.structs import Boxes, ReadReport

_EXPECTED = "COCO annotations, an object with the lists images, annotations and categories"
_EXPECTED_RESULTS = "COCO results, a list of objects with image_id, category_id, bbox and score"


# Label of a row of results; None where it is of no class.
LabelOf = Callable[[dict[str, Any]], int | None]


class Annotations(NamedTuple):
    """Content of an annotation file."""

    frames: list[Boxes]  # one an image, in the order of their ids; `source` is the file name or ""
    class_names: tuple[str, ...]  # in the order of their ids
    category_ids: tuple[Id, ...]
    report: ReadReport


def read_annotations(path: str | os.PathLike) -> Annotations:
    """Read COCO annotations (instances). Regions (`iscrowd`) are kept and marked.

    An annotation without bbox gets the box around its polygons, which is counted. Missing or null areas are
    width times height, missing or null image sizes are None.
    """
    return annotations_of(read_json(path, _EXPECTED), path)


def annotations_of(content: Any, path: str | os.PathLike) -> Annotations:
    """Annotations of the decoded content of a JSON file; `path` is its name in errors."""
    keys = ("images", "annotations", "categories")
    missing = [k for k in keys if not isinstance(content, dict) or not isinstance(content.get(k), list)]
    if missing:
        raise InputError(f"{path}: no list {', '.join(missing)}; expected {_EXPECTED}")
    report = ReadReport()
    images = _images(content["images"], path, report)
    categories = _categories(content["categories"], content["annotations"], path, report)
    image_index = {image: i for i, image in enumerate(images)}
    category_index = {category: i for i, category in enumerate(categories)}
    columns: tuple[list, ...] = ([], [], [], [], [])
    for position, row in enumerate(content["annotations"]):
        values = _annotation(row, position, image_index, category_index, report)
        if values is not None:
            for column, value in zip(columns, values, strict=True):
                column.append(value)
    _check_some(path, len(content["annotations"]), len(columns[0]), report, "annotations")
    class_names = tuple(categories.values())
    return Annotations(_frames(images, columns, class_names), class_names, tuple(categories), report)


def renamed(known: Annotations, class_names: Sequence[str], class_map: Mapping[str, str]) -> Annotations:
    """Annotations with the classes of a detector: names by `class_map`, then without regard to case.

    Categories that get one name become one class. A name that is none of `class_names` stays.
    """
    strange = sorted(set(class_map.values()) - set(class_names))
    if strange:
        raise InputError(f"the class map names {shown(strange[0])}, expected one of {', '.join(class_names)}")
    plain = {name.casefold(): name for name in reversed(class_names)}
    by_name = {name.casefold(): to for name, to in class_map.items()}
    new = []
    for name in known.class_names:
        to = by_name.get(name.casefold(), name)
        new.append(to if to in class_names else plain.get(to.casefold(), to))
    if tuple(new) == known.class_names:
        return known
    names = tuple(dict.fromkeys(new))
    label = np.array([names.index(name) for name in new], np.int32)
    frames = [replace(boxes, labels=label[boxes.labels], class_names=names) for boxes in known.frames]
    ids = tuple(known.category_ids[new.index(name)] for name in names)
    changed = [f"{a} to {b}" for a, b in zip(known.class_names, new, strict=True) if a != b]
    known.report.note(f"categories under another name ({', '.join(changed[:5])})", len(changed))
    return Annotations(frames, names, ids, known.report)


def read_results(path: str | os.PathLike, annotations: Annotations | None = None) -> BoxFile:
    """Read COCO results; frames come in the order of their first box.

    Classes are those of `annotations`, by name where the file has names, else by id. Without annotations they
    are those the file names; if it names none, the labels are the category ids and `class_names` is ().
    """
    rows = read_json(path, _EXPECTED_RESULTS)
    if not isinstance(rows, list):
        raise InputError(f"{path}: not a list; expected {_EXPECTED_RESULTS}")
    report = ReadReport()
    class_names, label_of = _labels_of(path, rows, annotations)
    frames: dict[tuple, list] = {}
    for position, row in enumerate(rows):
        found = _result(row, f"row {position + 1}", label_of, report)
        if found is not None:
            key, *values = found
            frames.setdefault(key, []).append(values)
    _check_some(path, len(rows), sum(len(found) for found in frames.values()), report, "boxes")
    boxes = []
    for (image_id, source, frame, time_us), found in frames.items():
        xywh, scores, labels, tracks = (np.array(column) for column in zip(*found, strict=True))
        boxes.append(
            Boxes.of_xywh(
                xywh,
                scores,
                labels,
                class_names=class_names,
                source=source,
                frame=frame,
                time_us=time_us,
                image_id=image_id,
                track_ids=tracks if tracks.max() > 0 else None,
            )
        )
    return BoxFile(boxes, class_names, True, report)


def write_results(
    path: str | os.PathLike,
    frames: Iterable[Boxes],
    class_names: Sequence[str] = (),
    category_ids: Sequence[Id] | None = None,
) -> None:
    """Write COCO results; frames without boxes leave no trace in this format.

    Categories get `category_ids` [classes], by default those of `class_names.coco_ids`. Images get their
    `image_id`; if one has none, the number that its file name is, or else its source.
    """
    frames = list(frames)
    if category_ids is None:
        category_ids = names_of.coco_ids(class_names)
    rows: list[dict[str, Any]] = []
    for boxes, image_id in zip(frames, image_ids(frames), strict=True):
        where = {"file_name": boxes.source or None, "frame": boxes.frame, "time_us": boxes.time_us}
        where = {key: value for key, value in where.items() if value is not None}
        found = replace(boxes, image_id=image_id).to_coco(category_ids)
        ids = boxes.track_ids if boxes.track_ids is not None else np.full(len(boxes), -1)
        for row, label, track in zip(found, boxes.labels.tolist(), ids.tolist(), strict=True):
            more = {"category_name": class_names[label]} if class_names else {}
            rows.append(row | more | where | ({"track_id": track} if track > 0 else {}))
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(rows), encoding="utf-8")


def _images(
    rows: list, path: str | os.PathLike, report: ReadReport
) -> dict[Id, tuple[str, tuple[int, int] | None]]:
    """File name and size (height, width) of every image by id, in the order of ids."""
    found: dict[Id, tuple[str, tuple[int, int] | None]] = {}
    for position, row in enumerate(rows):
        image_id = same_id(row.get("id")) if isinstance(row, dict) else None
        if image_id is None:
            report.add("images without an id", where=f"image {position + 1} of the list")
            continue
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            report.note("images without a file name", where=f"image {shown(image_id)}")
            name = ""
        if image_id in found:
            if found[image_id][0] != name:
                raise InputError(
                    f"{path}: image id {shown(image_id)} stands for {shown(found[image_id][0])} "
                    f"and {shown(name)}; expected an id each"
                )
            report.note("repetitions of an image as one", where=f"image {shown(image_id)}")
        height, width = (number(row.get(key)) for key in ("height", "width"))
        size = (int(height), int(width)) if height and width and min(height, width) >= 1 else None
        found[image_id] = name, size
    return {image_id: found[image_id] for image_id in sorted(found, key=order_of)}


def _categories(rows: list, annotations: list, path: str | os.PathLike, report: ReadReport) -> dict[Id, str]:
    """Name of every category by id, in the order of ids."""
    found: dict[Id, str] = {}
    for position, row in enumerate(rows):
        category = same_id(row.get("id")) if isinstance(row, dict) else None
        name = row.get("name") if isinstance(row, dict) else None
        if category is None or not isinstance(name, (str, int)) or isinstance(name, bool):
            report.add("categories without an id or a name", where=f"category {position + 1} of the list")
        elif found.setdefault(category, str(name)) != str(name):
            raise InputError(
                f"{path}: category id {shown(category)} stands for {shown(found[category])} and {shown(name)}"
            )
    if len(set(found.values())) < len(found):
        # Exports often add a root of the name of a class, which no box has.
        num_named = len(found)
        used = {same_id(row.get("category_id")) for row in annotations if isinstance(row, dict)}
        names = list(found.values())
        found = {c: name for c, name in found.items() if c in used or names.count(name) == 1}
        names = list(found.values())
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise InputError(f"{path}: two categories are called {shown(double)}; expected different names")
        report.note("categories without boxes that are called as another, not at all", num_named - len(found))
    return {category: found[category] for category in sorted(found, key=order_of)}


def _annotation(row: Any, position: int, images: dict, categories: dict, report: ReadReport) -> tuple | None:
    """Image, box, label, area and crowd of an annotation; None, counted, if one of them cannot be read."""
    where = f"annotation {position + 1} of the list"
    if not isinstance(row, dict):
        return report.add("annotations that are no objects", where=where)
    if "id" in row:
        where = f"annotation {shown(row['id'])}"
    image = images.get(same_id(row.get("image_id")))
    category = categories.get(same_id(row.get("category_id")))
    if image is None:
        return report.add("annotations of images that are not listed", where=where)
    if category is None:
        return report.add("annotations of categories that are not listed", where=where)
    xywh = _bbox(row.get("bbox"))
    if not row.get("bbox"):
        xywh = _around(row.get("segmentation"))
        report.note("bboxes taken from polygons", xywh is not None, where)
    if xywh is None:
        return report.add("annotations without a bbox of four numbers", where=where)
    area = number(row.get("area"))
    if area is None and row.get("area") is not None:
        report.note("areas that are no numbers as width times height", where=where)
    return image, xywh, category, xywh[2] * xywh[3] if area is None else area, bool(row.get("iscrowd"))


def _bbox(value: Any) -> list[float] | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    x, y, width, height = (number(side) for side in value)
    if x is None or y is None or width is None or height is None or width < 0 or height < 0:
        return None
    return [x, y, width, height]


def _around(segmentation: Any) -> list[float] | None:
    """The box around polygons [x1, y1, x2, y2, ...]; None if there is none."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    if not all(
        isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in segmentation
    ):
        return None
    values = [number(value) for polygon in segmentation for value in polygon]
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return None
    x, y = numbers[::2], numbers[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _frames(images: dict, columns: tuple[list, ...], class_names: tuple[str, ...]) -> list[Boxes]:
    image = np.array(columns[0], np.int64)
    order = np.argsort(image, kind="stable")
    xywh = np.array(columns[1], np.float64).reshape(-1, 4)[order]
    labels = np.array(columns[2], np.int32)[order]
    area, crowd = np.array(columns[3], np.float64)[order], np.array(columns[4], bool)[order]
    starts = np.searchsorted(image[order], np.arange(len(images) + 1))
    frames = []
    for index, (image_id, (name, size)) in enumerate(images.items()):
        rows = slice(starts[index], starts[index + 1])
        frames.append(
            Boxes.of_xywh(
                xywh[rows],
                np.ones(rows.stop - rows.start, np.float32),
                labels[rows],
                class_names=class_names,
                source=name,
                image_size=size,
                image_id=image_id,
                area=area[rows],
                crowd=crowd[rows],
            )
        )
    return frames


def _labels_of(
    path: str | os.PathLike, rows: list, annotations: Annotations | None
) -> tuple[tuple[str, ...], LabelOf]:
    """Names of the classes of results, and the label of a row (None: of no class)."""
    if annotations is not None:
        return annotations.class_names, _label_among(annotations)
    named: dict[Any, Any] = {}
    for row in rows:
        if isinstance(row, dict):
            category, name = same_id(row.get("category_id")), row.get("category_name")
            if named.setdefault(category, name) != name:
                raise InputError(f"{path}: category {shown(category)} has two names or a name only at times")
    if named and all(isinstance(name, str) and category is not None for category, name in named.items()):
        class_names, index = classes_of(named, first=1)
        return class_names, lambda row: index[same_id(row["category_id"])]
    return (), _own_number


def _label_among(annotations: Annotations) -> LabelOf:
    """The label of a row by the name of its category where it has one, else by its id."""
    by_name = {name: i for i, name in enumerate(annotations.class_names)}
    by_id: dict[Any, int] = {category: i for i, category in enumerate(annotations.category_ids)}

    def label(row: dict) -> int | None:
        name = row.get("category_name")
        return by_name.get(name) if isinstance(name, str) else by_id.get(same_id(row.get("category_id")))

    return label


def _own_number(row: dict) -> int | None:
    category = same_id(row.get("category_id"))
    return category if isinstance(category, int) and 0 <= category < 2**31 else None


def _result(row: Any, where: str, label_of: LabelOf, report: ReadReport) -> tuple | None:
    """Image, box, score and label of a row of results; None, counted, if one of them cannot be read."""
    if not isinstance(row, dict):
        return report.add("boxes that are no objects", where=where)
    image_id, source = same_id(row.get("image_id")), row.get("file_name", "")
    if image_id is None or not isinstance(source, str):
        return report.add("boxes without an image_id, or with a file_name that is not text", where=where)
    frame, time_us, track = (same_id(row.get(key)) for key in ("frame", "time_us", "track_id"))
    if any(isinstance(value, int) and abs(value) >= 1 << 62 for value in (frame, time_us, track)):
        return report.add("boxes whose frame, time or track does not fit 64 bits", where=where)
    for key, value in (("frame", frame), ("time_us", time_us)):
        if not isinstance(value, int) and row.get(key) is not None:
            return report.add(f"boxes whose {key} is not a whole number", where=where)
    if not source and isinstance(image_id, str):
        source = image_id  # text is a name
    xywh, score = _bbox(row.get("bbox")), number(row.get("score"))
    if xywh is None:
        return report.add("boxes without a bbox of four numbers", where=where)
    if score is None:
        return report.add("boxes without a score", where=where)
    label = label_of(row)
    if label is None:
        return report.add("boxes of categories that are not listed", where=where)
    return (image_id, source, frame, time_us), xywh, score, label, track if isinstance(track, int) else -1


def _check_some(path: str | os.PathLike, num_rows: int, num_kept: int, report: ReadReport, what: str) -> None:
    if num_rows and not num_kept:
        raise InputError(f"{path}: none of {num_rows} {what} could be read: {report.line()}")
