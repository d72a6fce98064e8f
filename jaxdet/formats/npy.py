"""Boxes of one recording as `.npy`: a structured array of t, x, y, w, h, class_id and perhaps a confidence.

Labels of GEN1 (`<name>_bbox.npy`) and detections of HMNet (`<name>_td.npy`) are such files, a row a box. The
columns may be of any numeric type and stand in any order; older files call t `ts` and the score `confidence`.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet.errors import InputError
from jaxdet.files import atomic
from jaxdet.formats import BoxFile, arrays
from jaxdet.structs import Boxes, ReadReport

# Rows of the released HMNet's detections, padded to 40 bytes.
ROWS = np.dtype(
    {
        "names": ["t", "x", "y", "w", "h", "class_id", "track_id", "class_confidence"],
        "formats": ["<i8", "<f4", "<f4", "<f4", "<f4", "<u4", "<u4", "<f4"],
        "offsets": [0, 8, 12, 16, 20, 24, 28, 32],
        "itemsize": 40,
    }
)


def recording_name(path: str | os.PathLike) -> str:
    """Name of the recording of a file of labels, events or detections: the stem without `_td` or `_bbox`."""
    return re.sub(r"_(td|bbox)$", "", Path(path).stem)


def read(path: str | os.PathLike) -> BoxFile:
    """Frames in order of time, rows of one time in their order; `source` is the name of the recording."""
    table = read_table(path)
    frames, has_scores = frames_of(table, recording_name(path), str(path))
    return BoxFile(frames, (), has_scores, ReadReport())


def read_table(path: str | os.PathLike) -> np.ndarray:
    """The rows as the file has them; never unpickles."""
    table = arrays.load(path, "boxes of one recording")
    if table.dtype.names is None or table.ndim != 1:
        if not table.size:
            return np.zeros(0, ROWS)  # some tools write a plain empty array where nothing was found
        raise InputError(f"{path}: not a structured array; expected fields t, x, y, w, h, class_id, ...")
    return table


def frames_of(table: np.ndarray, source: str, where: str) -> tuple[list[Boxes], bool]:
    """Frames of rows with t (or ts), x, y, w, h, class_id, and True if scored; `where` is for errors."""
    fields = table.dtype.names or ()

    def column(*candidates: str) -> np.ndarray:
        for name in candidates:
            if name in fields:
                return table[name]
        raise InputError(
            f"{where}: no field {candidates[0]} among {', '.join(fields) or 'none'}; "
            "expected a table of boxes"
        )

    has_scores = bool({"class_confidence", "confidence"} & set(fields))
    try:
        scores = np.ones(len(table), np.float32)
        if has_scores:
            scores = arrays.numbers(column("class_confidence", "confidence"), "scores")
        xywh = np.stack([arrays.numbers(column(name), name) for name in "xywh"], axis=-1)
        t_us = arrays.whole_numbers(column("t", "ts"), "time", -(2**62), 2**62)
        labels = arrays.whole_numbers(column("class_id"), "class_id", 0, 2**31).astype(np.int32)
    except ValueError as error:
        raise InputError(f"{where}: {error}; expected a table of boxes") from error
    order = np.argsort(t_us, kind="stable")
    times, first = np.unique(t_us[order], return_index=True)
    bounds = [*first.tolist(), len(order)]
    xywh, scores, labels = xywh[order], scores[order], labels[order]
    xyxy = np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), 1)
    # Views of the columns: `Boxes.of_xywh` for each of ten thousand steps would take a second.
    frames = [
        Boxes(xyxy[a:b], scores[a:b], labels[a:b], source=source, time_us=time, file_xywh=xywh[a:b])
        for time, a, b in zip(times.tolist(), bounds, bounds[1:])
    ]
    return frames, has_scores


def rows_of(boxes: Boxes) -> np.ndarray:
    """The released rows of one frame of a recording."""
    if boxes.time_us is None:
        raise InputError(
            f"{boxes.source or 'frame'}: no time; .npy holds boxes of recordings, write .h5, .json or .csv"
        )
    table = np.zeros(len(boxes), ROWS)
    table["t"] = boxes.time_us
    table["x"], table["y"], table["w"], table["h"] = boxes.xywh.T
    table["class_id"], table["class_confidence"] = boxes.labels, boxes.scores
    if boxes.track_ids is not None:
        table["track_id"] = np.maximum(boxes.track_ids, 0)
    return table


@contextmanager
def writer(path: str | os.PathLike) -> Iterator[Callable[[Boxes], None]]:
    """Write frame by frame; the bytes are those of `numpy.save` of all released rows at once.

    Raises InputError for frames of a second recording, which the file could not tell apart.
    """
    header: dict[str, Any] = {
        "descr": np.lib.format.dtype_to_descr(ROWS),
        "fortran_order": False,
        "shape": (0,),
    }
    num_rows, source = 0, None
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)

        def append(boxes: Boxes) -> None:
            nonlocal num_rows, source
            if source not in (None, boxes.source):
                raise InputError(
                    f"{path}: boxes of {source} and {boxes.source}; .npy holds one recording, "
                    "write .h5 or .csv"
                )
            table, source = rows_of(boxes), boxes.source
            file.write(table.tobytes())
            num_rows += len(table)

        yield append
        # NumPy leaves room in the header for the number of rows to grow.
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header | {"shape": (num_rows,)})


def write(path: str | os.PathLike, frames: Sequence[Boxes]) -> None:
    """Write the frames of one recording in the released rows."""
    with writer(path) as append:
        for boxes in frames:
            append(boxes)
