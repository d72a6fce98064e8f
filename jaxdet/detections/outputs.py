"""Where predicted frames of recordings go: the released tool's `.npy`, the detections file, a video."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from jaxdet.detections import foreign, store
from jaxdet.errors import InputError
from jaxdet.inference.events import StepBoxes
from jaxdet.structs import Boxes
from jaxdet.viewing import drawing

Output = Callable[[StepBoxes], None]


@contextmanager
def boxes(
    path: str | os.PathLike,
    name: str,
    size: tuple[int, int],
    class_names: Sequence[str],
    metadata: dict[str, Any],
) -> Iterator[Output]:
    """Boxes of one recording: `.npy` in the released layout, or `.h5`. `size` is (height, width)."""
    suffix = Path(path).suffix
    if suffix == ".npy":
        with foreign.open_table(path) as append:
            yield lambda step: append(_released(step.boxes))
    elif suffix in (".h5", ".hdf5"):
        with store.create(path, class_names, "t_us", metadata) as writer:
            writer.add_clip(name)
            yield lambda step: _store(writer, name, size, step.boxes)
    else:
        raise InputError(
            f"{path}: cannot write boxes as {suffix or 'a file without suffix'}; use .npy or .h5"
        )


@contextmanager
def video(
    path: str | os.PathLike,
    size: tuple[int, int],
    class_names: Sequence[str],
    step_us: int,
    stride: int,
    min_score: float,
) -> Iterator[Output]:
    """Boxes over events in real time, a picture every `stride` steps; `size` is (height, width)."""
    if stride < 1:
        raise InputError(f"a picture every {stride} steps, expected 1 or more")
    with drawing.open_sink(path, fps=1e6 / (step_us * stride)) as sink:
        pictures = drawing.EventSink(sink, size, class_names, stride, min_score)

        def take(step: StepBoxes) -> None:
            x, y, polarity = step.events
            pictures.add(x, y, polarity, step.boxes.xyxy, step.boxes.scores, step.boxes.labels)

        yield take


@contextmanager
def split(
    folder: str | os.PathLike,
    recordings: Sequence[Any],
    size: tuple[int, int],
    class_names: Sequence[str],
    metadata: dict[str, Any],
    step_us: int,
    store_name: str,
) -> Iterator[Output]:
    """Boxes of many recordings: `<folder>/<name>_td.npy` each, as the released tool names them, and `store_name`.

    A recording's file appears when its last step has been taken.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ends = [-(-1000 * r.duration_ms // step_us) * step_us for r in recordings]
    open_tables: dict[int, tuple[ExitStack, Callable]] = {}
    with (
        ExitStack() as unfinished,
        store.create(folder / store_name, class_names, "t_us", metadata) as writer,
    ):

        def take(step: StepBoxes) -> None:
            name, time_us = step.boxes.source, step.boxes.time_us or 0
            if step.sequence not in open_tables:
                stack = unfinished.enter_context(ExitStack())
                append = stack.enter_context(foreign.open_table(folder / f"{name}_td.npy"))
                open_tables[step.sequence] = stack, append
            stack, append = open_tables[step.sequence]
            append(_released(step.boxes))
            _store(writer, name, size, step.boxes)
            if time_us >= ends[step.sequence]:
                stack.close()
                del open_tables[step.sequence]

        for recording in recordings:
            writer.add_clip(recording.name)
        yield take


def _released(boxes: Boxes):
    return foreign.released_rows(boxes.time_us, boxes.xyxy, boxes.scores, boxes.labels)


def _store(writer, name, size, boxes: Boxes):
    writer.append(name, boxes.time_us, size[::-1], boxes.xyxy, boxes.scores, boxes.labels)
