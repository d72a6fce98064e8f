"""1Mpx, Prophesee's automotive set of 1280x720 pixels: `<session>_td.dat` as distributed, `_td.h5` of RVT.

Labels have seven classes, of which the first three are scored. Files of RVT without a size are of 1280x720.
"""

from pathlib import Path

from jaxdet import class_names
from jaxdet.data.datasets import paired_files
from jaxdet.data.datasets.event_sets import FoundSources
from jaxdet.data.events.label_files import Classes

SIZE = (720, 1280)  # height, width
CLASSES = {"7": class_names.ONEMPX, "3": class_names.ONEMPX[:3]}


def find(source: Path, classes: Classes) -> FoundSources:
    """The recordings below `source` with labels of `classes`."""
    return paired_files.find(source, classes)
