"""Recordings and images to batches, in numpy: worker processes never import jax."""

from typing import Any

from jaxdet.data.pipeline import Batches
from jaxdet.errors import InputError


def open(config: Any, split: str, *, start: int = 0, process: tuple[int, int] = (0, 1)) -> Batches:
    """Training batches of `split` from step `start` on, endless and seekable.

    `config` is a data block: `kind` chooses the source, whose class tells the fields it reads; `workers` is the number
    of worker processes, 0 for threads. `process` is this process's index and the number of processes; a process gets
    its consecutive share of the lanes. What comes out depends on neither workers nor threads.
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
