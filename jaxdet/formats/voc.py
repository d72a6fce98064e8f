"""Pascal VOC XML: a file an image, an `object` a box with the name of its class.

Corners are taken as the file has them: the original data set counts pixels from 1, most tools that write this
format count from 0. An object may have a `score`, which the original does not know. The marks `difficult` and
`truncated` are ignored: such objects count as all others.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from jaxdet.errors import InputError
from jaxdet.files import atomic, finished, safe_path
from jaxdet.formats import BoxFile, names
from jaxdet.formats.text import read_text, shown
from jaxdet.structs import Boxes, ReadReport

_EXPECTED = "Pascal VOC annotations (XML) of an image"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read(path: str | os.PathLike, class_names: Sequence[str] | None = None) -> BoxFile:
    """Read a file, or all .xml files below a folder, in the order of their names.

    Labels index `class_names`, by default the names found, sorted. Objects of other classes, and objects and
    files that cannot be read, are left out and counted; a single file that cannot be read is an InputError.
    """
    path, report = Path(path), ReadReport()
    found: list[tuple[dict, list]] = []
    if path.is_dir():
        for file in finished(path.rglob("*.xml"), path):
            try:
                found.append(_file(file, report))
            except InputError as error:
                report.add("files that are not Pascal VOC annotations", where=str(error))
        if not found:
            raise InputError(
                f"{path}: no .xml file that could be read; expected {_EXPECTED}: {report.line()}"
            )
    else:
        found.append(_file(path, report))
    if class_names is None:
        class_names = sorted({name for _, objects in found for name, _, _ in objects})
    index = {name: i for i, name in enumerate(class_names)}
    frames = []
    for where, objects in found:
        rows = [(index[name], score, corners) for name, score, corners in objects if name in index]
        report.add("objects of other classes", len(objects) - len(rows), where["source"])
        labels = np.array([label for label, _, _ in rows], np.int32)
        scores = np.array([1.0 if score is None else score for _, score, _ in rows])
        corners = np.array([corners for _, _, corners in rows], np.float64).reshape(-1, 4)
        frames.append(Boxes(corners, scores, labels, class_names=tuple(class_names), **where))
    has_scores = any(score is not None for _, objects in found for _, score, _ in objects)
    return BoxFile(frames, tuple(class_names), has_scores, report)


def write(
    folder: str | os.PathLike, frames: Iterable[Boxes], class_names: Sequence[str], scores: bool = True
) -> None:
    """Write `<source without suffix>.xml` for every image, as many digits as the values have.

    Raises InputError for a source that leads out of `folder`.
    """
    for boxes in frames:
        place = safe_path(names.path_name(boxes), "name of an image")
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = boxes.source
        if boxes.image_size is not None:
            size = ElementTree.SubElement(root, "size")
            for name, value in zip(("height", "width"), boxes.image_size, strict=True):
                ElementTree.SubElement(size, name).text = str(value)
        for corners, score, label in zip(boxes.xyxy, boxes.scores, boxes.labels.tolist(), strict=True):
            item = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(item, "name").text = str(class_names[label])
            if scores:
                ElementTree.SubElement(item, "score").text = str(score)
            box = ElementTree.SubElement(item, "bndbox")
            for name, value in zip(_CORNERS, corners, strict=True):
                ElementTree.SubElement(box, name).text = str(value)
        ElementTree.indent(root)
        with atomic(Path(folder) / f"{place}.xml") as temporary:
            temporary.write_text(ElementTree.tostring(root, "unicode") + "\n", encoding="utf-8")


def _file(path: Path, report: ReadReport) -> tuple[dict, list[tuple]]:
    """Source and size of an image, and its objects: class name, score or None, corners."""
    text = read_text(path, _EXPECTED)
    if "<!" in text.replace("<!--", ""):
        # Entities can make a small file a large one, and no tool writes them here.
        raise InputError(f"{path}: holds a document type or other declaration; expected plain XML elements")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}; expected {_EXPECTED}") from error
    if root.tag != "annotation":
        raise InputError(f"{path}: root element {shown(root.tag)}; expected {_EXPECTED}")
    sides = [_number(root.findtext(f"size/{name}")) for name in ("height", "width")]
    size = (int(sides[0]), int(sides[1])) if sides[0] and sides[1] else None
    where = {"source": root.findtext("filename") or f"{path.stem}.jpg", "image_size": size}
    objects = []
    for item in root.iter("object"):
        name, score = item.findtext("name"), item.findtext("score")
        corners = [_number(item.findtext(f"bndbox/{corner}")) for corner in _CORNERS]
        if not name or None in corners or (score is not None and _number(score) is None):
            report.add("objects without a name, four corners or a score that is a number", where=str(path))
            continue
        objects.append((name.strip(), None if score is None else _number(score), corners))
    return where, objects


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if np.isfinite(value) else None
