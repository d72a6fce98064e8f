"""Where predicted frames of recordings go: the released tool's `.npy`, the detections file, a video."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from jaxdet.detections import foreign, store
from jaxdet.errors import InputError
from jaxdet.files import safe_name
from jaxdet.inference.events import Frame
from jaxdet.viewing import drawing

Output = Callable[[Frame], None]


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
            yield lambda frame: append(_released(frame))
    elif suffix in (".h5", ".hdf5"):
        with store.create(path, class_names, "t_us", metadata) as writer:
            writer.add_clip(name)
            yield lambda frame: _store(writer, name, size, frame)
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

        def take(frame: Frame) -> None:
            x, y, polarity = frame.events
            pictures.add(x, y, polarity, frame.boxes, frame.scores, frame.labels)

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

    A recording's file appears when its last step has been taken. Raises InputError, before anything is written, for
    recordings of one name or of a name that is none of a file.
    """
    folder = Path(folder)
    names = [safe_name(recording.name, f"{recording.path}: name") for recording in recordings]
    _check_distinct(names)
    folder.mkdir(parents=True, exist_ok=True)
    ends = [-(-1000 * r.duration_ms // step_us) * step_us for r in recordings]
    open_tables: dict[int, tuple[ExitStack, Callable]] = {}
    with (
        ExitStack() as unfinished,
        store.create(folder / store_name, class_names, "t_us", metadata) as writer,
    ):

        def take(frame: Frame) -> None:
            name = names[frame.sequence]
            if frame.sequence not in open_tables:
                stack = unfinished.enter_context(ExitStack())
                append = stack.enter_context(foreign.open_table(folder / f"{name}_td.npy"))
                open_tables[frame.sequence] = stack, append
            stack, append = open_tables[frame.sequence]
            append(_released(frame))
            _store(writer, name, size, frame)
            if frame.t_us >= ends[frame.sequence]:
                stack.close()
                del open_tables[frame.sequence]

        for name in names:
            writer.add_clip(name)
        yield take


def _check_distinct(names: Sequence[str]) -> None:
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise InputError(
            f"{count} recordings are called {name}; expected one of each name, prepare them again"
        )


def _released(frame: Frame):
    return foreign.released_rows(frame.t_us, frame.boxes, frame.scores, frame.labels)


def _store(writer, name, size, frame: Frame):
    writer.append(name, frame.t_us, size[::-1], frame.boxes, frame.scores, frame.labels)
