"""Division of a set of images into training and validation by scene, so that no scene is in both.

Frames of one video look alike: divided at random, validation measures memory. A scene is told by the name of
an image; the choice depends on the names only.
"""

import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from jaxdet.errors import InputError
from jaxdet.formats.names import without_suffix

logger = logging.getLogger(__name__)

_DO = {"train": "train", "val": "validate"}
PARTS = tuple(_DO)
_SHARE = 0.2  # of the images validate
_LEAST, _MOST = 0.1, 0.3  # otherwise scenes are too few or too unequal to be divided whole

_ROBOFLOW = re.compile(r"(?:_(?:jpe?g|png|bmp|tiff?|webp))?\.rf\.[0-9A-Za-z]+$")
_FRAME = re.compile(r"(.*?)[-_. ]*frame[-_. ]*\d+.*", re.IGNORECASE)
_NUMBERED = re.compile(r"(.*?)[-_. ]*\d+")


class Sourced(Protocol):
    """An image with its path."""

    @property
    def source(self) -> str: ...


Image = TypeVar("Image", bound=Sourced)


class Division(NamedTuple):
    """Positions of the images of either part, and a phrase that says how they were told apart."""

    train: list[int]
    val: list[int]
    rule: str


def part_of(split: str) -> tuple[str, str]:
    """`images#val` as ("images", "val"); the part is "" where a split names none."""
    name, _, part = split.rpartition("#")
    return (name, part) if name and part in PARTS else (split, "")


def scene_of(source: str) -> str:
    """Scene of an image by its path: the name without the number of the frame, or the folder of a number.

    Text after `frame_0001` belongs to the frame. Copies that Roboflow augmented are of the scene of their
    original. A name without a number is a scene of its own.
    """
    folder, _, name = _ROBOFLOW.sub("", without_suffix(source)).rpartition("/")
    match = _FRAME.fullmatch(name) or _NUMBERED.fullmatch(name)
    scene = name if match is None else match[1]
    return f"{folder}/{scene}" if folder else scene


def divide(sources: Sequence[str]) -> Division:
    """Divide images, paths in `sources`, so that about a fifth validates.

    Whole scenes are taken in an order that their names give at random. Where no such choice has between a
    tenth and three tenths of the images, the last fifth of the frames of each scene validates.
    """
    scenes = defaultdict(list)
    for index in sorted(range(len(sources)), key=lambda i: (without_suffix(sources[i]), i)):
        scenes[scene_of(sources[index])].append(index)
    chosen: list[str] = []
    held = 0
    for scene in sorted(scenes, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if held < _SHARE * len(sources) and held + len(scenes[scene]) <= _MOST * len(sources):
            chosen.append(scene)
            held += len(scenes[scene])
    if held >= _LEAST * len(sources) and held:
        val = {index for scene in chosen for index in scenes[scene]}
        rule = f"{len(chosen)} of {len(scenes)} scenes validate"
    else:
        val = {i for indices in scenes.values() for i in indices[len(indices) - _fifth(len(indices)) :]}
        rule = f"the last fifth of the frames of each of {len(scenes)} scenes validates"
    train = [index for index in range(len(sources)) if index not in val]
    return Division(train, sorted(val), rule)


def _fifth(count: int) -> int:
    return max(round(_SHARE * count), 1) if count > 1 else 0


def chosen(images: Sequence[Image], part: str, where: str) -> list[Image]:
    """The images of a part, "train" or "val", or all of them for ""; `where` is their set, for messages."""
    if not part:
        return list(images)
    division = divide([image.source for image in images])
    indices = getattr(division, part)
    if not indices:
        raise InputError(f"{where}: {len(images)} images cannot be divided; name the images that validate")
    logger.info("%s: %d of %d images %s: %s", where, len(indices), len(images), _DO[part], division.rule)
    return [images[index] for index in indices]
