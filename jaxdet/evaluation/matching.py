"""Matching of images between two files: the labelled image that the boxes of another file belong to."""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from jaxdet.errors import InputError
from jaxdet.formats import names
from jaxdet.structs import Boxes

logger = logging.getLogger(__name__)


class ImageIndex:
    """Finds labelled images by path, id or name.

    These are tried in turn: the path of the image (or of its video or clip, with the number of the frame),
    the id in a COCO file, the end of the path, and last the name without suffix. The end of a path or a name
    counts only if a single image has it and the folders, where both are known, agree; `line` reports how many
    images were matched so. An id does not identify an image if both files name the image and the names
    differ: ids are numbered anew in every data set.
    """

    def __init__(self, labels: Sequence[Boxes]):
        self._labels = labels
        self._by_path: dict[tuple, list[int]] = defaultdict(list)
        self._by_id: dict[int | str, int] = {}
        self._by_name: dict[str, list[int]] = defaultdict(list)
        self._by_number: dict[tuple, list[int]] = defaultdict(list)
        for index, boxes in enumerate(labels):
            if boxes.source:
                self._by_path[_path(boxes)].append(index)
                self._by_name[_stem(names.path_name(boxes))].append(index)
            if boxes.image_id is not None:
                self._by_id[boxes.image_id] = index
            number = _number(boxes)
            if number is not None:
                self._by_number[number].append(index)
        self.weak: Counter[str] = Counter()  # matches by less than the path or id, by kind

    def find(self, boxes: Boxes) -> int | None:
        """Index of the labelled image that `boxes` belong to, or None; InputError if several fit."""
        same = self._by_path.get(_path(boxes), []) if boxes.source else []
        if len(same) == 1:
            return same[0]
        by_id = None if boxes.image_id is None else self._by_id.get(boxes.image_id)
        if by_id is not None and (by_id in same or not same) and self._agrees(boxes, by_id):
            return by_id
        if not boxes.source:
            return None
        if same:
            raise InputError(
                f"{boxes.source}: {len(same)} labelled images have this name; "
                "expected image ids that tell them apart"
            )
        number = _number(boxes)
        near = self._by_number.get(number, []) if number is not None else []
        if not near:
            near = self._by_name.get(_stem(names.path_name(boxes)), [])
        if len(near) > 1:
            near = [index for index in near if _ends_alike(boxes.source, self._labels[index].source)]
            if len(near) != 1:
                raise InputError(
                    f"{boxes.source}: several labelled images have this name, in different folders; expected "
                    "paths that tell them apart"
                )
        if not near or _folders_disagree(boxes.source, self._labels[near[0]].source):
            return None
        exact = _ends_alike(boxes.source, self._labels[near[0]].source)
        self.weak["the end of their paths" if exact else "their names without folder and suffix"] += 1
        return near[0]

    def _agrees(self, boxes: Boxes, index: int) -> bool:
        """True unless the image found by its id has another name than the one that the boxes give."""
        known = self._labels[index].source
        if not boxes.source or not known or isinstance(boxes.image_id, str):
            return True
        # COCO_val2014_000000000785.jpg and 000000000785.jpg are image 785.
        digits = _stem(known).rpartition("_")[2]
        return _stem(known) == _stem(boxes.source) or (digits.isdigit() and int(digits) == boxes.image_id)

    def line(self) -> str:
        """Summary of the images that were not matched by their path or id; empty if all were."""
        parts = [f"{count} by {how}" for how, count in self.weak.items()]
        return f"images matched {', '.join(parts)}" if parts else ""


def positions(labels: Sequence[Boxes], found: Sequence[Boxes]) -> list[int | None]:
    """Index of the labelled image of each frame of `found`, None for a frame of an unlabelled image.

    Raises InputError if two frames belong to one image, or if there are frames but not one of a labelled
    image.
    """
    index, taken, result = ImageIndex(labels), {}, []
    for boxes in found:
        position = index.find(boxes)
        if position is not None and position in taken:
            one, other = (names.file_name(b) for b in (taken[position], boxes))
            raise InputError(
                f"{one} and {other} are both taken for the labelled image "
                f"{names.file_name(labels[position])}; expected each image once"
            )
        if position is not None:
            taken[position] = boxes
        result.append(position)
    if found and not taken:
        raise InputError(
            f"none of {len(found)} images, such as {names.file_name(found[0])!r}, is among the {len(labels)} "
            f"labelled ones, such as {names.file_name(labels[0])!r}; check that the files belong together"
        )
    if index.line():
        logger.info("%s", index.line())
    return result


def _path(boxes: Boxes) -> tuple:
    return boxes.source, boxes.frame, boxes.time_us


def _stem(source: str) -> str:
    return names.without_suffix(source).rpartition("/")[2]


def _number(boxes: Boxes) -> tuple[str, int] | None:
    """Clip and frame number of a video's frame or of an image named `<clip>_<number>`; None for others."""
    if boxes.time_us is not None:
        return None
    if boxes.frame is not None:
        return _stem(boxes.source), boxes.frame
    clip, _, number = _stem(boxes.source).rpartition("_")
    return (clip, int(number)) if clip and number.isascii() and number.isdigit() else None


def _folders_disagree(a: str, b: str) -> bool:
    """True if both paths have folders, and neither's are the end of the other's: of two cameras, say."""
    folders = [PurePosixPath(path).parent.as_posix() for path in (a, b)]
    return "." not in folders and not _ends_alike(*folders)


def _ends_alike(a: str, b: str) -> bool:
    """True if one path is the end of the other, file suffixes included."""
    pairs = zip(reversed(PurePosixPath(a).parts), reversed(PurePosixPath(b).parts))
    return all(x == y for x, y in pairs)
