"""Recordings by their path: opened, compared with the model's sensor, predicted."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxdet.data.events import recordings
from jaxdet.errors import InputError
from jaxdet.formats import npy
from jaxdet.inference import recordings as on_recordings
from jaxdet.inference.events import Predictor, StepBoxes


def predict(predictor: Predictor, path: Path, event_buckets: Sequence[int]) -> Iterator[StepBoxes]:
    """Boxes after every step of a DAT or RAW file, or of a prepared recording.

    Raises InputError for a recording of another sensor than the model's.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; expected a recording (.dat, .raw) or a prepared folder")
    if path.is_dir():
        recording = recordings.open_recording(path)
        _check_size(path, recording.height, recording.width, predictor.geometry.size)
        return on_recordings.predict(predictor, [recording], event_buckets)
    chunks = events(path, predictor.geometry.size)
    return on_recordings.predict_stream(predictor, chunks, event_buckets, source=npy.recording_name(path))


def events(path: Path, size: tuple[int, int]) -> Iterator[Any]:
    """Chunks of events of a DAT or RAW file in order of time, all of them on a sensor of `size` (height,
    width)."""
    stream = recordings.open_events(path)
    _check_size(path, stream.height, stream.width, size)
    return _inside(path, stream.ordered(), size)


def _inside(path: Path, chunks: Iterable[Any], size: tuple[int, int]) -> Iterator[Any]:
    for chunk in chunks:
        if len(chunk.x) and (chunk.x.max() >= size[1] or chunk.y.max() >= size[0]):
            _check_size(path, int(chunk.y.max()) + 1, int(chunk.x.max()) + 1, size)
        yield chunk


def _check_size(path: Path, height: int | None, width: int | None, size: tuple[int, int]) -> None:
    if None not in (height, width) and (height, width) != size:
        raise InputError(
            f"{path}: a recording of {width}x{height} pixels, the model sees {size[1]}x{size[0]}; "
            "predict it with a model of its sensor"
        )
