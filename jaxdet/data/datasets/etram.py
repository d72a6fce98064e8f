"""eTraM, a traffic set of 1280x720 pixels: HDF5 recordings with labels of three grouped or of eight classes.

HDF5/<split>_h5_<n>/<session>_td.h5, <session>_bbox.npy       three classes, in the order of 1Mpx
class annotations/eight_class_annotations_<split>/<session>_bbox.npy
"""

from pathlib import Path

from jaxdet import class_names
from jaxdet.data.datasets import paired_files
from jaxdet.data.datasets.event_sets import FoundSources
from jaxdet.data.events.label_files import Classes
from jaxdet.errors import InputError

SIZE = (720, 1280)  # height, width
CLASSES = {"3": class_names.ONEMPX[:3], "8": class_names.ETRAM}
EVENTS, EIGHT = "HDF5", "class annotations"


def find(source: Path, classes: Classes) -> FoundSources:
    """The recordings below `source` with labels of `classes`, whose names are a value of `CLASSES`.

    InputError if the folder of eight classes is asked for and not there.
    """
    events = source / EVENTS if (source / EVENTS).is_dir() else source
    labels = source / EIGHT if classes.names == CLASSES["8"] else None
    if labels is not None and not labels.is_dir():
        raise InputError(
            f"{labels}: no such folder, expected the labels of eight classes; or give --classes=3"
        )
    return paired_files.find(events, classes, labels)
