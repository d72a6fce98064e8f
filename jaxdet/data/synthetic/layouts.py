"""Simulated thermal pictures in the layouts of FLIR ADAS v2, HIT-UAV, LLVIP and LTDv2.

Pictures and boxes are those of `thermal`, stretched to the size of the data set. A picture depends on seed,
split and number only; every twentieth second of a clip is one, so that neighbours differ.
"""

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from jaxdet import class_names
from jaxdet.data.datasets import ltd, ltdv2, thermal_sets
from jaxdet.data.synthetic import jobs, thermal
from jaxdet.data.synthetic.gen1 import Simulation
from jaxdet.files import atomic
from jaxdet.formats import voc
from jaxdet.structs import Boxes

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
_PER_CLIP, _SPACING = 10, 12  # pictures of a clip, seconds between two
Picture = tuple[np.ndarray, np.ndarray]


def pictures(seed: int, split: str, count: int, size: tuple[int, int]) -> Iterator[Picture]:
    """Yield `count` pictures uint8 [*size] and rows int [M, 5] of class (of LTD), x1, y1, x2, y2."""
    height, width = size
    scene = thermal.camera(seed)
    for first in range(0, count, _PER_CLIP):
        rng = np.random.default_rng([seed, 4, SPLITS.index(split), first])
        conditions = thermal.weather(int(rng.integers(12)), seed)
        movers = thermal.traffic(_PER_CLIP * _SPACING, scene, conditions, rng)
        for index in range(min(_PER_CLIP, count - first)):
            yield _stretched(*thermal.frame(index * _SPACING, scene, conditions, movers, rng), height, width)


def _stretched(picture: np.ndarray, rows: np.ndarray, height: int, width: int) -> Picture:
    parts = np.array([width / ltd.WIDTH, height / ltd.HEIGHT] * 2)
    rows = np.concatenate([rows[:, :1], np.rint(rows[:, 1:] * parts).astype(int)], 1)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), rows


def _save(path: Path, picture: np.ndarray) -> None:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
    with atomic(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _json(path: Path, content: Any) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _rows(image_id: int, rows: np.ndarray, ids: tuple[int, ...], first: int) -> list[dict[str, Any]]:
    """COCO annotations of an image; `ids` are the category ids of LTD's four classes."""
    found = []
    for number, (label, x1, y1, x2, y2) in enumerate(rows.tolist(), first):
        box = [x1, y1, x2 - x1, y2 - y1]
        found.append(
            {"id": number, "image_id": image_id, "category_id": ids[label], "bbox": box,
             "area": box[2] * box[3], "segmentation": [], "iscrowd": 0}
        )  # fmt: skip
    return found


def _flir(out: Path, counts: dict[str, int], seed: int) -> None:
    size, ids = (512, 640), (1, 2, 4, 3)  # person, bike, motor, car
    for split, count in counts.items():
        folder = out / thermal_sets.FLIR_FOLDERS[f"thermal_{split}"]
        images, boxes = [], []
        for number, (picture, rows) in enumerate(pictures(seed, split, count, size)):
            name = f"data/{'video' if split == 'test' else 'image'}-sim{seed}-frame-{number:06d}.jpg"
            _save(folder / name, picture)
            images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
            boxes += _rows(number, rows, ids, len(boxes))
        # Slots without boxes, as in the file as distributed.
        slots = {number: class_names.FLIR_IDS.get(number, "unused") for number in range(1, 81)}
        categories = [{"id": number, "name": name} for number, name in slots.items()]
        _json(folder / "coco.json", {"images": images, "annotations": boxes, "categories": categories})


def _hit_uav(out: Path, counts: dict[str, int], seed: int) -> None:
    size, ids = (512, 640), (0, 2, 3, 1)  # Person, Bicycle, OtherVehicle, Car
    for split, count in counts.items():
        images, boxes = [], []
        for number, (picture, rows) in enumerate(pictures(seed, split, count, size)):
            name = f"0_60_{30 + 10 * (number % 7)}_0_{number:05d}.jpg"
            _save(out / "normal_json" / split / name, picture)
            images.append({"id": number, "filename": name, "height": size[0], "width": size[1]})
            boxes += _rows(number, rows, ids, len(boxes))
            if number % 10 == 9 and len(rows):  # a region that nobody labelled
                boxes[-1]["category_id"] = 4
        names = [*class_names.HIT_UAV, "DontCare"]
        categories = [{"id": number, "name": name} for number, name in enumerate(names)]
        content = {"images": images, "annotation": boxes, "categories": categories}
        _json(out / "normal_json" / "annotations" / f"{split}.json", content)


def _llvip(out: Path, counts: dict[str, int], seed: int) -> None:
    size = (1024, 1280)
    for split, count in counts.items():
        if split == "val":  # the data set has no validation split
            continue
        scene = 1 + SPLITS.index(split)
        for number, (picture, rows) in enumerate(pictures(seed, split, count, size), 1):
            name = f"{scene:02d}{number:04d}"
            _save(out / "LLVIP" / "infrared" / split / f"{name}.jpg", picture)
            people = rows[rows[:, 0] == 0]
            found = Boxes(
                people[:, 1:], np.ones(len(people)), people[:, 0], source=f"{name}.jpg", image_size=size
            )
            voc.write(out / "LLVIP" / "Annotations", [found], class_names.LLVIP, scores=False)


def _ltdv2(out: Path, counts: dict[str, int], seed: int) -> None:
    size, ids, months = (ltdv2.HEIGHT, ltdv2.WIDTH), (1, 2, 3, 4), list(ltdv2.INTERVALS)
    names = ("background", *class_names.LTDV2)
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    uids = []
    for split, count in counts.items():
        images, boxes = [], []
        for number, (picture, rows) in enumerate(pictures(seed, split, count, size)):
            month, second = months[number % len(months)], number // len(months) % 60
            clip, day = SPLITS.index(split) + 1, 1 + number // (60 * len(months)) % 28
            uid = int(f"{month}{clip:03d}{day:02d}1200{second:02d}")
            name = f"{month}{day:02d}/clip_{clip}_1200/image_{second:04d}.jpg"
            _save(out / "frames" / name, picture)
            images.append({"id": uid, "file_name": name, "height": size[0], "width": size[1]})
            boxes += _rows(uid, rows, ids, len(boxes) + 1)
        content = {"images": images, "categories": categories, "annotations": boxes}
        if split == "test":
            del content["annotations"]
            uids = [str(row["id"]) for row in images]
            _json(out / "template.json", {uid: {"boxes": [], "scores": [], "labels": []} for uid in uids})
        _json(out / ltdv2.SPLITS[split], content)


_LAYOUTS: dict[str, Callable[[Path, dict[str, int], int], None]] = {
    "flir": _flir, "hit_uav": _hit_uav, "llvip": _llvip, "ltdv2": _ltdv2,
}  # fmt: skip


def write(name: str, out: Path, counts: dict[str, int], simulation: Simulation, workers: int = 1) -> None:
    """Write `counts` pictures of each split in a layout, in this process.

    Of `simulation` only the seed matters. InputError if `out` holds anything else than such a simulation.
    """
    del workers
    jobs.claim(out, name, f"seed {simulation.seed}")
    _LAYOUTS[name](out, {split: count for split, count in counts.items() if count}, simulation.seed)
    logger.info("%s: %d pictures", out, sum(counts.values()))


# Writers of simulated sets by the name of their layout.
WRITERS = {name: partial(write, name) for name in _LAYOUTS}
