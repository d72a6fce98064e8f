"""Splits of images with COCO annotations, as every preparation of a foreign layout leaves them.

    <out>/<split>/annotations.json      <out>/<split>/images/<name>

The annotations are written after all images, so a split that has them is whole, and a run that was stopped
can be started again.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxdet.errors import InputError
from jaxdet.files import atomic, put_link, safe_path
from jaxdet.structs import Boxes

LINKS = ("hard", "symbolic", "copy")
ANNOTATIONS = "annotations.json"


class Labelled(NamedTuple):
    """An image file with its boxes; `boxes.source` is its name below images/."""

    path: Path
    boxes: Boxes


def place(source: str | os.PathLike, target: str | os.PathLike, link: str) -> None:
    """Copy or link `source` to `target`; a hard link that the file systems refuse becomes a symbolic one."""
    if link == "copy":
        with atomic(target) as temporary:
            shutil.copyfile(source, temporary)
    else:
        put_link(source, target, hard=link == "hard")


def write_split(
    folder: str | os.PathLike, images: Iterable[Labelled], categories: Mapping[int, str], link: str = "hard"
) -> int:
    """Write a split and return its number of images.

    `categories` maps the category ids of the file to names, in the order of the boxes' labels. An image keeps
    its id where it has one. An image that is there with the size of its source stays. Raises InputError for
    two images of one name, for unsafe names and for a split without images.
    """
    folder, rows, seen = Path(folder), [], set()
    ids = list(categories)
    for number, (path, boxes) in enumerate(images, 1):
        name = safe_path(boxes.source, f"{path}: name of the image")
        if name in seen:
            raise InputError(f"{path}: a second image {name} in {folder.name}; expected each name once")
        seen.add(name)
        target = folder / "images" / name
        if not (target.is_file() and target.stat().st_size == path.stat().st_size):
            place(path, target, link)
        rows.append((number if boxes.image_id is None else boxes.image_id, boxes))
    if not rows:
        raise InputError(f"{folder.name}: no image to prepare; expected at least one")
    content = {
        "images": [_image(image_id, boxes) for image_id, boxes in rows],
        "annotations": _annotations(rows, ids),
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
    }
    with atomic(folder / ANNOTATIONS) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
    return len(rows)


def _image(image_id: int | str, boxes: Boxes) -> dict[str, Any]:
    size = {} if boxes.image_size is None else dict(zip(("height", "width"), map(int, boxes.image_size)))
    return {"id": image_id, "file_name": boxes.source, **size}


def _annotations(rows: Sequence[tuple[int | str, Boxes]], ids: Sequence[int]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for image_id, boxes in rows:
        areas = boxes.xywh[:, 2] * boxes.xywh[:, 3] if boxes.area is None else boxes.area
        crowd = [False] * len(boxes) if boxes.crowd is None else boxes.crowd.tolist()
        for box, label, area, region in zip(
            boxes.xywh.tolist(), boxes.labels.tolist(), areas.tolist(), crowd, strict=True
        ):
            found.append(
                {
                    "id": len(found) + 1,
                    "image_id": image_id,
                    "category_id": ids[label],
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(region),
                }
            )
    return found
