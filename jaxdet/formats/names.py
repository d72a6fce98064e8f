"""Names of frames: `<clip>_<number>`, as released files call them, and the clips that follow from them.

The frames of a video are told apart by `Boxes.frame`, the steps of a recording by `Boxes.time_us`, and images
by `Boxes.source`, their path. Images make a clip up to the last underscore of their name, so that
`clip_1_0001_0007` and `clip_1_00011_0007` are of two clips, or by their folder where the name is a number.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

from jaxdet.errors import InputError
from jaxdet.structs import Boxes

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".avif",
    ".gif", ".pbm", ".pgm", ".ppm", ".pnm", ".pxm", ".hdr", ".sr", ".ras",
)  # fmt: skip
_NUMBERED = re.compile(r"(?:(.*)[_/])?(\d+)")


def without_suffix(source: str) -> str:
    """The path of an image without `.jpg` and the like; other dots belong to the name."""
    path = PurePosixPath(source)
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_SUFFIXES else source


def path_name(boxes: Boxes) -> str:
    """A name that tells frames apart: the path of an image without suffix, or `<source>_<number>`."""
    if boxes.frame is not None:
        return f"{boxes.source}_{boxes.frame:04d}"
    if boxes.time_us is not None:
        return f"{boxes.source}_{boxes.time_us:04d}"
    if not boxes.source and boxes.image_id is not None:
        return str(boxes.image_id)
    return without_suffix(boxes.source)


def file_name(boxes: Boxes) -> str:
    """As `path_name`, but the path of an image is whole."""
    is_image = boxes.frame is None and boxes.time_us is None and boxes.source
    return boxes.source if is_image else path_name(boxes)


def stem(boxes: Boxes) -> str:
    """`path_name` without folders, the key of a frame in released files."""
    return path_name(boxes).rpartition("/")[2]


def clip_and_number(boxes: Boxes) -> tuple[str, int]:
    """Clip or recording of a frame, and its place there. Raises InputError for a name without number."""
    for number in (boxes.frame, boxes.time_us):
        if number is not None:
            return boxes.source, number
    match = _NUMBERED.fullmatch(path_name(boxes))
    if match is None:
        raise InputError(
            f"frame {path_name(boxes)!r}; expected <clip>_<frame number>, such as 20210213_clip_1_0001_0119"
        )
    return match[1] or "", int(match[2])


def by_clip(frames: Sequence[Boxes]) -> dict[str, list[int]]:
    """Indices of the frames of each clip in order of their numbers, clips sorted by name.

    Raises InputError for a frame that appears twice.
    """
    clips: dict[str, list[tuple[int, int]]] = {}
    for index, boxes in enumerate(frames):
        clip, number = clip_and_number(boxes)
        clips.setdefault(clip, []).append((number, index))
    for clip, rows in clips.items():
        rows.sort()
        for (number, a), (other, b) in zip(rows, rows[1:]):  # noqa: RUF007
            if number == other:
                names = f"{path_name(frames[a])} and {path_name(frames[b])}"
                raise InputError(f"clip {clip}: frame {number} appears twice, as {names}")
    return {clip: [index for _, index in rows] for clip, rows in sorted(clips.items())}


def check_stems(sources: Iterable[str], path: object) -> None:
    """Raises InputError if two images have one name, for a format that files images under it."""
    counts = Counter(without_suffix(source).rpartition("/")[2] for source in sources)
    name, count = counts.most_common(1)[0] if counts else ("", 0)
    if count > 1:
        raise InputError(
            f"{count} images are called {name} and {path} tells images apart by name only; "
            "write .h5, .json, .npz or .csv, which keep the folders"
        )


def index_of(known: Sequence[str]) -> Callable[[str], int | None]:
    """Function from an image's source to its index in `known`, file names of a data set, or None.

    The whole path counts first, then the path without suffix, then the name without folders where only one of
    `known` has it.
    """
    whole = {name: i for i, name in enumerate(known)}
    short = {without_suffix(name): i for i, name in enumerate(known)}
    stems = [without_suffix(name).rpartition("/")[2] for name in known]
    counts = Counter(stems)
    unique = {stem: i for i, stem in enumerate(stems) if counts[stem] == 1}

    def position(source: str) -> int | None:
        name = without_suffix(source)
        for table, key in ((whole, source), (short, name), (unique, name.rpartition("/")[2])):
            if key in table:
                return table[key]
        return None

    return position
