"""Batches of recordings and images, in NumPy: worker processes never import jax."""

from typing import Any

from jaxdet.data.pipeline import Batches
from jaxdet.errors import InputError


def open(config: Any, split: str, *, start: int = 0, process: tuple[int, int] = (0, 1)) -> Batches:
    """Open the training batches of `split` from step `start` on, endless and seekable.

    `config` is a data block: `kind` is "events" (see `Windows` for the fields it reads) or "images" (see
    `LabelledImages`); `workers` is the number of worker processes, 0 for threads. `process` is this process's
    index and the number of processes; each gets its consecutive share of the lanes. The batches do not depend
    on the number of workers or threads. Raises InputError for another `kind` and for data that cannot be
    read.
    """
    if config.kind == "events":
        from jaxdet.data.events.windows import Windows

        source = Windows(config, split, process)
    elif config.kind == "images":
        from jaxdet.data.images.samples import LabelledImages

        source = LabelledImages(config, split, process)
    else:
        raise InputError(f"data.kind is {config.kind!r}, expected 'events' or 'images'")
    return Batches(source, start=start, workers=int(config.workers))
