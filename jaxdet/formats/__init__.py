"""Files of boxes as other tools write them: one module a format, each reads and writes it.

`HOLDS` lists what a file of each format keeps of `structs.Boxes`; "h5" is the detections file
(`detections.store`).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxdet.structs import Boxes, ReadReport


class BoxFile(NamedTuple):
    """The boxes of a file, frame by frame in the order of the file."""

    frames: list[Boxes]
    class_names: tuple[str, ...]  # () where the file names no classes
    has_scores: bool  # False: scores are 1, and rows rank by their order
    report: ReadReport
    metadata: Mapping[str, Any] = {}  # what the writer said of its model or rule


class Holds(NamedTuple):
    """Fields of `Boxes` that a format keeps."""

    scores: bool
    class_names: bool
    identity: str  # "path": of an image below its root; "name": its stem; "number": of a frame; "": nothing
    time: str  # "us", "frame", "both", or "" where only the name tells frames apart
    precision: str  # what a coordinate is stored as


# Formats that keep the identities of tracks.
TRACKED = ("json", "npz", "txt", "csv", "npy")

HOLDS = {
    "h5": Holds(True, True, "path", "both", "float32 corners"),
    "npy": Holds(True, False, "", "us", "float32 sides"),
    "json": Holds(True, True, "path", "both", "float64 sides"),
    "pkl": Holds(True, False, "name", "", "corners of 3 decimals"),
    "npz": Holds(True, True, "path", "both", "float64 corners"),
    "txt": Holds(True, False, "number", "frame", "float64 sides"),
    "yolo": Holds(True, False, "path", "", "float32 parts of the image"),
    "csv": Holds(True, True, "path", "both", "float64 corners"),
}
