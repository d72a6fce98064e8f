"""Foreign formats of boxes and labels: one file each, which reads and writes it."""

from typing import NamedTuple

from jaxdet.structs import Boxes, ReadReport


class BoxFile(NamedTuple):
    """Content of a file of boxes."""

    frames: list[Boxes]
    class_names: tuple[str, ...]  # () where the file names no classes
    has_scores: bool
    report: ReadReport  # what was left out
