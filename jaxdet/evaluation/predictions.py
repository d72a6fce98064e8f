"""Detections of many frames in the layouts that challenge entries and trackers exchange.

| suffix | layout |
| ------ | ------ |
| .pkl   | {frame key: {"boxes": [[x1, y1, x2, y2], ...], "labels": [...], "scores": [...]}}; scores may be missing |
| .h5    | the detections file of `predict` (`store`); boxes are rounded to 3 decimals, scores to 5, as in a pickle |
| .npz   | arrays keys [F], counts [F], boxes [R, 4], scores [R], labels [R] |
| .txt   | MOT: frame, id, left, top, width, height, score, label; one clip, frames from 1; label -1 is 0 |
| .json  | COCO results: image_id, category_id, bbox (left, top, width, height), score |

A frame key is `<clip>_<frame number>`: frames belong together up to the last underscore, so that `clip_1_0001` and
`clip_1_00011` are two clips. Frames are numbered once, in order of time.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdet.errors import InputError
from jaxdet.evaluation import pickles, store
from jaxdet.files import atomic
from jaxdet.postprocess import seqnms
from jaxdet.postprocess.seqnms import Frame

_KEY = re.compile(r"(.*)_(\d+)")
PLACEHOLDER = {"boxes": [[0, 0, 0, 0]], "labels": [0]}


class Predictions(NamedTuple):
    """Detections by frame key. `scores` are 1 where the source had none: rows then rank by their order."""

    frames: dict[str, Frame]
    clips: dict[str, list[str]]  # keys of each clip in order of time
    has_scores: bool = True
    numpy_numbers: bool = False  # a pickle of these holds numpy.float64, as after Seq-NMS, not float


def of(frames: dict[str, Frame], **fields: Any) -> Predictions:
    """Predictions whose clips follow from the keys."""
    return Predictions(frames, clips_of(frames), **fields)


def clips_of(keys: Iterable[str]) -> dict[str, list[str]]:
    """Keys by clip, the part before the last `_NNNN`, each clip's in order of that number."""
    clips: dict[str, list[tuple[int, str]]] = {}
    for key in keys:
        match = _KEY.fullmatch(key)
        if match is None:
            raise InputError(
                f"frame key {key!r}; expected <clip>_<frame number>, such as 20210213_clip_1_0001_0119"
            )
        clips.setdefault(match[1], []).append((int(match[2]), key))
    for name, rows in clips.items():
        rows.sort()
        for (number, a), (other, b) in zip(rows, rows[1:]):  # noqa: RUF007
            if number == other:
                raise InputError(f"clip {name}: frame {number} appears twice, as {a} and {b}")
    return {name: [key for _, key in rows] for name, rows in sorted(clips.items())}


def read(path: str | os.PathLike) -> Predictions:
    """Read predictions by suffix. Raises InputError for unreadable files, NaN and repeated frames."""
    reader = _pick(path, _READERS)
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; expected detections")
    found = reader(Path(path))
    for key, frame in found.frames.items():
        if not (np.isfinite(frame.boxes).all() and np.isfinite(frame.scores).all()):
            raise InputError(f"{path}: {key} holds a box or score that is not finite; check the weights")
    return found


def write(path: str | os.PathLike, predictions: Predictions) -> None:
    """Write predictions by suffix, all but `.h5` (which also wants image sizes: use `map_stores`)."""
    _pick(path, _WRITERS)(path, predictions)


def map_stores(
    sources: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    function: Callable[[Predictions], Predictions],
    note: str,
) -> None:
    """Join the clips of detections files into `out`, with `function` applied to each.

    `function` sees a clip as a released pickle holds it, without empty frames; `out` has all frames again. `note` is
    kept as the rule in its metadata.
    """
    with ExitStack() as stack:
        writer = None
        for source in sources:
            reader = stack.enter_context(store.read(source))
            if writer is None:
                metadata = {**reader.metadata, "rule": note}
                writer = stack.enter_context(store.create(out, reader.class_names, reader.key, metadata))
            for name, clip in reader:
                result = function(without_empty(_of_clips([(name, clip)], reader.key, reader.metadata)))
                writer.add_clip(name)
                for key, size in zip(clip.keys, clip.sizes):
                    writer.append(name, key, size, *result.frames.get(_key(name, key, reader.key), _EMPTY))


def rescore(predictions: Predictions, options: seqnms.Options | None = None) -> Predictions:
    """Seq-NMS of every clip."""
    if not predictions.has_scores:
        raise InputError(
            "these predictions have no scores; Seq-NMS needs them, take the ones written by predict"
        )
    frames = {}
    for keys in predictions.clips.values():
        # Parity: what is absent is skipped, so boxes link across a gap as if its ends were neighbours.
        for key, frame in zip(keys, seqnms.run([predictions.frames[key] for key in keys], options)):
            frames[key] = frame
    return predictions._replace(frames=frames, numpy_numbers=True)


def drop_scores_below(predictions: Predictions, threshold: float) -> Predictions:
    """Keep boxes with a score above `threshold`, in their order."""
    if not predictions.has_scores:
        raise InputError("these predictions have no scores to compare; take the ones written by predict")
    frames = {
        key: Frame(*(column[frame.scores > threshold] for column in frame))
        for key, frame in predictions.frames.items()
    }
    return predictions._replace(frames=frames, numpy_numbers=False)


def without_empty(predictions: Predictions) -> Predictions:
    """The predictions as a released pickle would hold them: frames without boxes are absent."""
    clips = {
        name: [key for key in keys if len(predictions.frames[key].scores)]
        for name, keys in predictions.clips.items()
    }
    frames = {key: predictions.frames[key] for keys in clips.values() for key in keys}
    return predictions._replace(frames=frames, clips={name: keys for name, keys in clips.items() if keys})


def entry(frame: Frame, numpy_numbers: bool) -> dict[str, list]:
    """A frame as in a submission: boxes and labels, one box of zeros if it has none."""
    if not len(frame.scores):
        return {name: list(value) for name, value in PLACEHOLDER.items()}
    boxes = [list(row) for row in frame.boxes] if numpy_numbers else frame.boxes.tolist()
    return {"boxes": boxes, "labels": [int(label) for label in frame.labels]}


def from_dict(content: Any, where: str) -> Predictions:
    """Predictions from the dictionary of a released pickle."""
    if not isinstance(content, dict):
        raise InputError(f"{where}: a {type(content).__name__}, expected a dictionary of frames")
    has_scores = all("scores" in value for value in content.values() if isinstance(value, dict))
    frames, numpy_numbers = {}, False
    for key, value in content.items():
        if not isinstance(key, str) or not key.isprintable():
            raise InputError(f"{where}: frame key {ascii(key)[:80]}; expected text, <clip>_<frame number>")
        frames[key] = _frame(value, has_scores, f"{where}: {key[:80]}")
        if len(frames[key].scores) and not numpy_numbers:
            numpy_numbers = isinstance(np.ravel(np.asarray(value["boxes"][0], object))[0], np.floating)
    return of(frames, has_scores=has_scores, numpy_numbers=numpy_numbers)


_EMPTY = Frame(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))


def _frame(value, has_scores, where) -> Frame:
    try:
        if not has_scores and value["boxes"] == PLACEHOLDER["boxes"]:
            return _EMPTY
        boxes = np.asarray(value["boxes"], np.float64).reshape(-1, 4)
        labels = np.asarray(value["labels"], np.int64).ravel()
        scores = np.asarray(value["scores"], np.float64).ravel() if has_scores else np.ones(len(labels))
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        found = f"{type(error).__name__} {ascii(str(error))[1:81]}"
        raise InputError(f"{where}: {found}; expected boxes, labels and perhaps scores as lists") from error
    return _checked(boxes, scores, labels, where)


def _checked(boxes, scores, labels, where) -> Frame:
    if not len(boxes) == len(scores) == len(labels):
        raise InputError(
            f"{where}: {len(boxes)} boxes, {len(scores)} scores, {len(labels)} labels; expected as many of each"
        )
    return Frame(boxes, scores, labels)


def _read_pickle(path: Path) -> Predictions:
    return from_dict(pickles.load(path), str(path))


def _write_pickle(path, predictions: Predictions) -> None:
    # As released: what comes out of Seq-NMS or score removal goes to a challenge and has no scores.
    pickles.dump(path, {k: entry(f, predictions.numpy_numbers) for k, f in predictions.frames.items()})


def _read_store(path: Path) -> Predictions:
    with store.read(path) as reader:
        return _of_clips(reader, reader.key, reader.metadata)


def _of_clips(clips: Iterable[tuple[str, store.Clip]], kind: str, metadata: dict) -> Predictions:
    frames, groups = {}, {}
    for name, clip in clips:
        groups[name] = [_key(name, key, kind) for key in clip.keys]
        for i, key in enumerate(groups[name]):
            if key in frames:
                raise InputError(f"frame {key} appears twice; expected each frame once")
            boxes, scores, labels = clip.frame(i)
            boxes = boxes.astype(np.float64).round(3)
            frames[key] = Frame(boxes, scores.astype(np.float64).round(5), labels.astype(np.int64))
    return Predictions(frames, groups, numpy_numbers=metadata.get("rule") == "seqnms")


def _key(name, key, kind) -> str:
    return str(key) if kind == "name" else f"{name}_{int(key):04d}"


def _read_npz(path: Path) -> Predictions:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = [archive[name] for name in ("keys", "counts", "boxes", "scores", "labels")]
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{path}: {error}; expected arrays keys, counts, boxes, scores and labels"
        ) from error
    keys, counts, boxes, scores, labels = arrays
    if len(set(keys.tolist())) < len(keys):
        raise InputError(f"{path}: a frame key appears twice; expected each frame once")
    if not len(keys) == len(counts) or not counts.sum() == len(boxes) == len(scores) == len(labels):
        raise InputError(f"{path}: counts, boxes, scores and labels disagree in length")
    stops = np.cumsum(counts)
    frames = {
        str(key): Frame(
            boxes[a:b].astype(np.float64), scores[a:b].astype(np.float64), labels[a:b].astype(np.int64)
        )
        for key, a, b in zip(keys, stops - counts, stops)
    }
    return of(frames)


def _write_npz(path, predictions: Predictions) -> None:
    frames = list(predictions.frames.values())
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            keys=np.array(list(predictions.frames)),
            counts=np.array([len(frame.scores) for frame in frames]),
            boxes=np.concatenate([_EMPTY.boxes, *(frame.boxes for frame in frames)]),
            scores=np.concatenate([_EMPTY.scores, *(frame.scores for frame in frames)]),
            labels=np.concatenate([_EMPTY.labels, *(frame.labels for frame in frames)]),
        )


def _read_mot(path: Path) -> Predictions:
    rows: dict[str, list] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(field) for field in line.split(",")]
            frame, _, left, top, width, height, score = values[:7]
        except ValueError as error:
            raise InputError(
                f"{path}:{number}: {line.strip()!r}; expected frame, id, left, top, width, height, score"
            ) from error
        label = max(int(values[7]), 0) if len(values) > 7 else 0
        key = f"{path.stem}_{int(frame):06d}"
        rows.setdefault(key, []).append(([left, top, left + width, top + height], score, label))
    return of({key: Frame(*(np.array(column) for column in zip(*found))) for key, found in rows.items()})


def _write_mot(path, predictions: Predictions) -> None:
    with atomic(path) as temporary, open(temporary, "w") as file:
        for key, frame in predictions.frames.items():
            for (x1, y1, x2, y2), score, label in zip(*frame):
                number = int(key.rsplit("_", 1)[1])
                box = ",".join(f"{value:.6g}" for value in (x1, y1, x2 - x1, y2 - y1))
                file.write(f"{number},-1,{box},{score:.6f},{label},-1,-1\n")


def _read_json(path: Path) -> Predictions:
    try:
        content = json.loads(path.read_text())
        rows: dict[str, list] = {}
        for row in content:
            left, top, width, height = row["bbox"]
            key = (
                row["image_id"] if isinstance(row["image_id"], str) else f"image_{int(row['image_id']):012d}"
            )
            box = [left, top, left + width, top + height]
            rows.setdefault(key, []).append((box, float(row["score"]), int(row["category_id"])))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: {error}; expected COCO results, a list of boxes with scores") from error
    frames = {key: Frame(*(np.array(column) for column in zip(*found))) for key, found in rows.items()}
    return of({key: frame._replace(boxes=frame.boxes.astype(np.float64)) for key, frame in frames.items()})


def _write_json(path, predictions: Predictions) -> None:
    rows = [
        {
            "image_id": int(key[6:]) if re.fullmatch(r"image_\d{12}", key) else key,
            "category_id": int(label),
            "bbox": [float(v) for v in np.round([x1, y1, x2 - x1, y2 - y1], 6)],
            "score": float(score),
        }
        for key, frame in predictions.frames.items()
        for (x1, y1, x2, y2), score, label in zip(*frame)
    ]
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(rows))


_READERS = {
    ".pkl": _read_pickle,
    ".h5": _read_store,
    ".npz": _read_npz,
    ".txt": _read_mot,
    ".json": _read_json,
}
_WRITERS = {".pkl": _write_pickle, ".npz": _write_npz, ".txt": _write_mot, ".json": _write_json}


def _pick(path, table: dict[str, Callable]) -> Callable:
    suffix = Path(path).suffix
    if suffix not in table:
        raise InputError(f"{path}: suffix {suffix or 'missing'}; expected one of {', '.join(table)}")
    return table[suffix]
