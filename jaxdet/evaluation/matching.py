"""Identity of images: the labelled image that the boxes of another file belong to."""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from jaxdet.errors import InputError
from jaxdet.formats import names
from jaxdet.structs import Boxes

logger = logging.getLogger(__name__)


class ImageIndex:
    """Finds labelled images by what identifies them.

    In this order: the path of the image (or video or clip with the number of the frame), the id that a COCO file gives
    it, the end of its path, and last its name without suffix. A path's end or name counts only where a single image
    has it, and `line` says how often it was needed. An id alone does not identify an image whose name both files
    tell and tell differently: numbers start anew in every data set.
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
        self.weak: Counter[str] = Counter()

    def find(self, boxes: Boxes) -> int | None:
        """Index of the labelled image, None if there is none. InputError if several could be meant."""
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
                f"{boxes.source}: {len(same)} labelled images have this name; give ids to tell them apart"
            )
        number = _number(boxes)
        near = self._by_number.get(number, []) if number is not None else []
        if not near:
            near = self._by_name.get(_stem(names.path_name(boxes)), [])
        if len(near) > 1:
            near = [index for index in near if _ends_alike(boxes.source, self._labels[index].source)]
            if len(near) != 1:
                raise InputError(
                    f"{boxes.source}: several labelled images are called so, in different folders; expected paths "
                    "that tell them apart"
                )
        if not near:
            return None
        exact = _ends_alike(boxes.source, self._labels[near[0]].source)
        self.weak["the end of their paths" if exact else "their names without folder and suffix"] += 1
        return near[0]

    def _agrees(self, boxes: Boxes, index: int) -> bool:
        """Whether an image found by its id can be the one that the boxes name."""
        known = self._labels[index].source
        if not boxes.source or not known or isinstance(boxes.image_id, str):
            return True
        # COCO_val2014_000000000785.jpg and 000000000785.jpg are image 785.
        digits = _stem(known).rpartition("_")[2]
        return _stem(known) == _stem(boxes.source) or (digits.isdigit() and int(digits) == boxes.image_id)

    def line(self) -> str:
        """One line on the images that were not matched by their path or id; empty if all were."""
        parts = [f"{count} by {how}" for how, count in self.weak.items()]
        return f"images matched {', '.join(parts)}" if parts else ""


def positions(labels: Sequence[Boxes], found: Sequence[Boxes]) -> list[int | None]:
    """Index of the labelled image of each frame of `found`.

    Raises InputError if two frames are of one image, or if there are frames and none is of a labelled image.
    """
    index, taken, result = ImageIndex(labels), {}, []
    for boxes in found:
        position = index.find(boxes)
        if position is not None and position in taken:
            one, other = (names.file_name(b) for b in (taken[position], boxes))
            raise InputError(
                f"{one} and {other} are both taken for the labelled image {names.file_name(labels[position])}; "
                "expected each image once"
            )
        if position is not None:
            taken[position] = boxes
        result.append(position)
    if found and not taken:
        raise InputError(
            f"none of {len(found)} images, such as {names.file_name(found[0])!r}, is among the {len(labels)} labelled "
            f"ones, such as {names.file_name(labels[0])!r}; check that the files belong together"
        )
    if index.line():
        logger.info("%s", index.line())
    return result


def _path(boxes: Boxes) -> tuple:
    return boxes.source, boxes.frame, boxes.time_us


def _stem(source: str) -> str:
    return names.without_suffix(source).rpartition("/")[2]


def _number(boxes: Boxes) -> tuple[str, int] | None:
    """Clip and number of a frame of a video; of an image that is called `<clip>_<number>` as well."""
    if boxes.time_us is not None:
        return None
    if boxes.frame is not None:
        return _stem(boxes.source), boxes.frame
    clip, _, number = _stem(boxes.source).rpartition("_")
    return (clip, int(number)) if clip and number.isascii() and number.isdigit() else None


def _ends_alike(a: str, b: str) -> bool:
    """Whether one path is the end of the other, suffixes included where both have one."""
    pairs = zip(reversed(PurePosixPath(a).parts), reversed(PurePosixPath(b).parts))
    return all(x == y for x, y in pairs)
