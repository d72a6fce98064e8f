"""Ids of COCO files: which id stands for an image, a category."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from jaxdet import class_names as names_of
from jaxdet.errors import InputError
from jaxdet.structs import Boxes

Id = int | str
_MOST_CLASSES = 10_000  # larger numbers are ids of a data base, not a count


def classes_of(named: Mapping[Any, str], first: int = 0) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Class names of a file that names the classes of its boxes by number, and the index of each number.

    A file knows the classes it has boxes of. Where the numbers count from `first`, or are COCO's, the indices
    are those of the whole list all the same, so that formats without names (MOT, pickles) get them unchanged;
    a class without boxes is called `class_<index>`.
    """
    coco = dict(zip(names_of.COCO_IDS, names_of.COCO, strict=True))
    if first == 1 and all(coco.get(number) == name for number, name in named.items()):
        return names_of.COCO, {number: names_of.COCO_IDS.index(number) for number in named}
    if named and all(isinstance(n, int) and first <= n < first + _MOST_CLASSES for n in named):
        spare = names_of.numbered(max(named) - first + 1)
        names = tuple(named.get(first + index, name) for index, name in enumerate(spare))
        return names, {number: number - first for number in named}
    order = sorted(named, key=order_of)
    return tuple(named[number] for number in order), {number: index for index, number in enumerate(order)}


def image_ids(frames: Sequence[Boxes]) -> list[Id]:
    """Ids of images, different for different images.

    An image with an `image_id` keeps it. The others are named by the number that their file's name is (as
    COCO's are) if all of them have one and no two are equal, else by their source without suffix, with frame
    or time.
    """
    given = [boxes.image_id for boxes in frames]
    rest = [boxes for boxes in frames if boxes.image_id is None]
    sources = list(dict.fromkeys((boxes.source, boxes.frame, boxes.time_us) for boxes in rest))
    named = dict(zip(sources, _names(sources), strict=True))
    taken = {image_id for image_id in given if image_id is not None}
    if taken & set(named.values()):
        raise InputError("some images have ids and others none, and they collide; give ids to all or none")
    return [
        named[boxes.source, boxes.frame, boxes.time_us] if boxes.image_id is None else boxes.image_id
        for boxes in frames
    ]


def _names(sources: list[tuple[str, int | None, int | None]]) -> Sequence[Id]:
    stems = [PurePath(source).stem for source, _, _ in sources]
    still = all(frame is None and time_us is None for _, frame, time_us in sources)
    if still and all(stem.isascii() and stem.isdigit() and len(stem) < 19 for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return numbers
    for with_suffix in (False, True):
        names = [_name(*one, with_suffix) for one in sources]
        if len(set(names)) == len(names):
            return names
    raise InputError("two images have one name; expected different sources, frames or times")


def _name(source: str, frame: int | None, time_us: int | None, with_suffix: bool) -> str:
    base = source if with_suffix or not source else str(PurePath(source).with_suffix(""))
    number = "" if frame is None else f"_{frame:04d}"
    return base + number + ("" if time_us is None else f"_{time_us:04d}")


def same_id(value: Any) -> Id | None:
    """The id that a value of a JSON file stands for: 7, 7.0 and "7" are 7; None if it is no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and value:
        plain = value.removeprefix("-")
        is_number = (
            plain.isascii() and plain.isdigit() and (plain == "0" or plain[0] != "0") and len(plain) < 19
        )
        return int(value) if is_number else value
    return None


def order_of(value: Id) -> tuple[bool, Id]:
    """Key to sort ids by: numbers, then text."""
    return (isinstance(value, str), value)
