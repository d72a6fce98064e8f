"""Boxes of many recordings: one `.npy` each, named as the released tool does, and one detections file."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from jaxdet.detections import store
from jaxdet.errors import InputError
from jaxdet.files import safe_name
from jaxdet.formats import npy
from jaxdet.structs import Boxes


@contextmanager
def writer(
    folder: str | os.PathLike,
    ends_us: Sequence[tuple[str, int]],
    store_name: str,
    class_names: Sequence[str],
    metadata: dict[str, Any],
) -> Iterator[Callable[[Boxes], None]]:
    """Yield what takes step after step: `<folder>/<name>_td.npy` of each recording, and all in `store_name`.

    `ends_us` are the recordings and the ends of their last steps, after which the file of each appears.
    Raises InputError, before anything is written, for recordings of one name or of a name that is not of a
    file.
    """
    folder = Path(folder)
    ends = {safe_name(name, "name of a recording"): end_us for name, end_us in ends_us}
    if len(ends) < len(ends_us):
        name, count = Counter(name for name, _ in ends_us).most_common(1)[0]
        raise InputError(
            f"{count} recordings are called {name}; expected one of each name, prepare them again"
        )
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, tuple[ExitStack, Callable[[Boxes], None]]] = {}
    with (
        ExitStack() as unfinished,
        store.create(folder / store_name, class_names, "t_us", metadata) as stored,
    ):

        def take(boxes: Boxes) -> None:
            name = boxes.source
            if name not in tables:
                stack = unfinished.enter_context(ExitStack())
                tables[name] = stack, stack.enter_context(npy.writer(folder / f"{name}_td.npy"))
            stack, append = tables[name]
            append(boxes)
            stored.append(boxes)
            if boxes.time_us is not None and boxes.time_us >= ends[name]:
                stack.close()
                del tables[name]

        for name in ends:
            stored.add_clip(name)
        yield take
