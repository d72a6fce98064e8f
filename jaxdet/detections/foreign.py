"""Detections and labels in the layouts of other tools: the released HMNet `.npy`, COCO JSON, YOLO text.

Inside the package boxes are corners (xyxy, pixels); each foreign layout exists only in the function that reads or
writes it.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdet.detections.store import Clip
from jaxdet.errors import InputError
from jaxdet.evaluation import coco
from jaxdet.files import atomic, safe_name

# The released tool's detections: padded records of 40 bytes.
RELEASED = np.dtype(
    {
        "names": ["t", "x", "y", "w", "h", "class_id", "track_id", "class_confidence"],
        "formats": ["<i8", "<f4", "<f4", "<f4", "<f4", "<u4", "<u4", "<f4"],
        "offsets": [0, 8, 12, 16, 20, 24, 28, 32],
        "itemsize": 40,
    }
)


def released(clip: Clip) -> np.ndarray:
    """Rows of the released layout, in frame order; keys of the clip are times in us."""
    t_us = np.repeat(np.asarray(clip.keys, np.int64), np.diff(clip.starts))
    return released_rows(t_us, clip.boxes, clip.scores, clip.labels)


def released_rows(t_us, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows of the released layout: `boxes` [D, 4] xyxy, `scores` and `labels` [D], `t_us` [D] or one for all."""
    table = np.zeros(len(scores), RELEASED)
    table["t"] = t_us
    table["x"], table["y"] = boxes[:, 0], boxes[:, 1]
    table["w"] = boxes[:, 2] - boxes[:, 0]
    table["h"] = boxes[:, 3] - boxes[:, 1]
    table["class_id"] = labels
    table["class_confidence"] = scores
    return table


@contextmanager
def open_table(path: str | os.PathLike) -> Iterator[Callable[[np.ndarray], None]]:
    """Write a `.npy` of released rows piece by piece; the bytes are those of `write_table` of all pieces at once."""
    header: dict[str, Any] = {
        "descr": np.lib.format.dtype_to_descr(RELEASED),
        "fortran_order": False,
        "shape": (0,),
    }
    num_rows = 0
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)

        def append(table: np.ndarray) -> None:
            nonlocal num_rows
            file.write(table.tobytes())
            num_rows += len(table)

        yield append
        # numpy leaves room in the header for the number of rows to grow.
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header | {"shape": (num_rows,)})


def write_table(path: str | os.PathLike, table: np.ndarray) -> None:
    """Write a structured array as `.npy`."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.save(file, table, allow_pickle=False)


def read_table(path: str | os.PathLike) -> np.ndarray:
    """Read a structured array of boxes from a `.npy`; never unpickles."""
    try:
        table = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected boxes of one recording") from error
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path}: not a readable .npy file of boxes ({error})") from error
    if not isinstance(table, np.ndarray) or table.dtype.names is None:
        if isinstance(table, np.ndarray) and not table.size:
            return np.zeros(0, RELEASED)  # some tools write a plain empty array where nothing was found
        raise InputError(f"{path}: not a structured array; expected fields t, x, y, w, h, class_id, ...")
    return table


def recording_name(path: str | os.PathLike) -> str:
    """Name of the recording a label, event or detections file belongs to: its stem without `_td` or `_bbox`."""
    return re.sub(r"_(td|bbox)$", "", Path(path).stem)


class CocoLabels(NamedTuple):
    """A COCO annotation file. Images and categories are in the order of their ids."""

    image_ids: np.ndarray  # int64 [I]
    file_names: tuple[str, ...]
    sizes: np.ndarray  # int32 [I, 2]  width, height
    category_ids: np.ndarray  # int64 [C]
    class_names: tuple[str, ...]
    boxes: coco.Boxes


def read_coco_labels(path: str | os.PathLike) -> CocoLabels:
    """Read COCO annotations (instances). Boxes of unknown images or categories raise InputError."""
    content = _read_json(path)
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= set(content):
        raise InputError(f"{path}: expected COCO annotations with images, annotations and categories")
    images = sorted(content["images"], key=lambda image: image["id"])
    categories = sorted(content["categories"], key=lambda category: category["id"])
    image_ids = np.array([image["id"] for image in images], np.int64)
    category_ids = np.array([category["id"] for category in categories], np.int64)
    rows = content["annotations"]
    return CocoLabels(
        image_ids,
        tuple(image["file_name"] for image in images),
        np.array([(image.get("width", 0), image.get("height", 0)) for image in images], np.int32).reshape(
            -1, 2
        ),
        category_ids,
        tuple(str(category["name"]) for category in categories),
        coco.boxes(
            _positions(image_ids, [row["image_id"] for row in rows], f"{path}: image"),
            np.array([row["bbox"] for row in rows], np.float64),
            _positions(category_ids, [row["category_id"] for row in rows], f"{path}: category"),
            area=[row.get("area", row["bbox"][2] * row["bbox"][3]) for row in rows],
            crowd=[row.get("iscrowd", 0) for row in rows],
        ),
    )


def read_coco_results(path: str | os.PathLike, labels: CocoLabels) -> coco.Boxes:
    """Read COCO results (a list of image_id, category_id, bbox, score) for the images of `labels`."""
    rows = _read_json(path)
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected COCO results, a list of image_id, category_id, bbox and score")
    return coco.boxes(
        _positions(labels.image_ids, [row["image_id"] for row in rows], f"{path}: image"),
        np.array([row["bbox"] for row in rows], np.float64),
        _positions(labels.category_ids, [row["category_id"] for row in rows], f"{path}: category"),
        scores=np.array([row["score"] for row in rows], np.float64),
    )


def write_coco_results(
    path: str | os.PathLike, clip: Clip, image_ids: Sequence[int], category_ids: Sequence[int]
) -> None:
    """Write a clip as COCO results; `image_ids` [F] name its frames, `category_ids` [C] its labels."""
    rows = []
    for i, image_id in enumerate(image_ids):
        for (x1, y1, x2, y2), score, label in zip(*(part.tolist() for part in clip.frame(i))):
            rows.append(
                {
                    "image_id": int(image_id),
                    "category_id": int(category_ids[label]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
            )
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(rows))


def write_yolo_text(folder: str | os.PathLike, clip: Clip) -> None:
    """Write `<stem>.txt` per frame: class, centre, size as fractions of the image, score; empty where no box is."""
    for i, key in enumerate(clip.keys):
        boxes, scores, labels = clip.frame(i)
        scale = np.tile(clip.sizes[i], 2)
        centred = np.concatenate(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), 1) / scale
        lines = [
            f"{label} {' '.join(f'{value:.6f}' for value in row)} {score:.5f}\n"
            for label, row, score in zip(labels, centred, scores)
        ]
        stem = Path(safe_name(str(key), "key of a frame")).stem
        with atomic(Path(folder) / f"{stem}.txt") as temporary:
            temporary.write_text("".join(lines))


def read_yolo_text(
    path: str | os.PathLike, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read (boxes xyxy pixels, scores, labels) of an image of `size` (width, height); scores default to 1."""
    lines = [line.split() for line in Path(path).read_text().splitlines() if line.strip()]
    try:
        values = np.array([[float(v) for v in line] + [1.0] * (len(line) == 5) for line in lines], np.float64)
        label, x, y, w, h, score = values.reshape(-1, 6).T
    except ValueError as error:
        raise InputError(f"{path}: expected lines of class x y w h, and optionally a score") from error
    corners = np.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), 1) * np.tile(size, 2)
    return corners.astype(np.float32), score.astype(np.float32), label.astype(np.int32)


def _read_json(path):
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected COCO JSON") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON ({error}); expected a COCO file") from error


def _positions(known: np.ndarray, wanted: Sequence[int], what: str) -> np.ndarray:
    """Index in `known` of every id in `wanted`."""
    index: Mapping[int, int] = {int(value): i for i, value in enumerate(known)}
    missing = [value for value in wanted if value not in index]
    if missing:
        raise InputError(
            f"{what} {missing[0]} is not in the list of {len(known)}; check that the files belong together"
        )
    return np.array([index[value] for value in wanted], np.int64)
