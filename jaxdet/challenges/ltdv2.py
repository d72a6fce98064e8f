"""Submission of LTDv2's board: exactly the frames of the template, each with its best boxes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdet import class_names
from jaxdet.data.datasets import ltdv2
from jaxdet.errors import InputError
from jaxdet.evaluation import ltdv2_board, matching
from jaxdet.formats import coco, names
from jaxdet.formats import ltdv2 as submissions
from jaxdet.structs import Boxes

MAX_BOXES = 100  # that the board counts


class Report(NamedTuple):
    """Counts of a submission."""

    num_frames: int
    num_boxes: int
    num_empty: int  # frames of the template without detections: empty lists
    num_cut: int  # boxes beyond the best of their frame


def write(
    out: str | os.PathLike,
    detections: Sequence[str | os.PathLike],
    template: str | os.PathLike,
    annotations: str | os.PathLike | None = None,
    max_boxes: int = MAX_BOXES,
) -> Report:
    """Write a submission with the keys of `template`, in its order.

    Frames are called by their uid, or found among the COCO `annotations` by path. Raises InputError for a
    frame that the template lacks, for one that comes twice and for boxes of other classes.
    """
    uids = [str(uid) for uid in submissions.read_object(template)]
    for uid in uids:
        ltdv2.decode(uid)
    known = ltdv2.read_annotations(annotations) if annotations else None
    found: dict[str, Boxes] = {}
    expected = set(uids)
    for path in detections:
        frames = ltdv2_board.read_detections(path, known).frames
        for uid, boxes in zip(_uids(frames, known, path), frames, strict=True):
            if uid not in expected:
                raise InputError(f"{path}: frame {uid} is not in {template}; expected its {len(uids)} frames")
            if uid in found:
                raise InputError(f"{path}: frame {uid} comes twice; expected each frame once")
            _check_classes(boxes, path)
            found[uid] = boxes
    if not found:
        raise InputError(f"{', '.join(map(str, detections))}: no frame; expected boxes of {template}")
    entries = {uid: _best(found.get(uid, Boxes.none()), max_boxes) for uid in uids}
    submissions.write(out, entries)
    num_boxes, num_all = (sum(map(len, part.values())) for part in (entries, found))
    return Report(
        len(uids), num_boxes, sum(not len(boxes) for boxes in entries.values()), num_all - num_boxes
    )


def _uids(frames: Sequence[Boxes], known: coco.Annotations | None, path: str | os.PathLike) -> list[str]:
    if known is None:
        return [_own_uid(boxes, path) for boxes in frames]
    found = []
    for boxes, position in zip(frames, matching.positions(known.frames, frames), strict=True):
        found.append(names.path_name(boxes) if position is None else str(known.frames[position].image_id))
    return found


def _own_uid(boxes: Boxes, path: str | os.PathLike) -> str:
    uid = Path(boxes.source).stem if boxes.image_id is None else str(boxes.image_id)
    try:
        ltdv2.decode(uid)
    except InputError as error:
        raise InputError(f"{path}: {error}; give --annotations, which say the uid of an image") from error
    return uid


def _check_classes(boxes: Boxes, path: str | os.PathLike) -> None:
    if boxes.class_names not in ((), class_names.LTDV2):
        raise InputError(
            f"{path}: classes {', '.join(boxes.class_names)}; expected {', '.join(class_names.LTDV2)}"
        )
    if len(boxes) and not 0 <= boxes.labels.min() <= boxes.labels.max() < len(class_names.LTDV2):
        raise InputError(f"{path}: class {boxes.labels.max()}, expected 0 to {len(class_names.LTDV2) - 1}")


def _best(boxes: Boxes, limit: int) -> Boxes:
    return boxes.take(np.argsort(-boxes.scores, kind="stable")[:limit])
