"""Pickles of predictions, read without running what is in them.

Only dictionaries, lists, tuples, sets, text and numbers come out; a pickle that asks for anything else is
refused before it gets it.
"""

import os
import pickle
from typing import Any

from jaxdet import pickles
from jaxdet.files import atomic
from jaxdet.pickles import tables

_NAMES = pickles.Names(
    calls={**tables.CONTAINERS, **tables.NUMBERS},
    expected="predictions: dictionaries, lists and numbers only",
    # A submission of all months has 370,000 frames, and a box after Seq-NMS takes 40 opcodes.
    max_objects=500_000_000,
)


def load(path: str | os.PathLike) -> Any:
    """The content of a pickle of plain containers and numbers; InputError for anything else in it."""
    return pickles.load(path, _NAMES)


def dump(path: str | os.PathLike, content: Any) -> None:
    """Write `content` as the released tools do, protocol 4."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        pickle.dump(content, file, protocol=4)
