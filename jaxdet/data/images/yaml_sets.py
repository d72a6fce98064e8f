"""Data sets that a `data.yaml` describes, as ultralytics and Roboflow write it.

Keys: `path` (root, optional), `train`, `val` or `valid`, `test` (a folder, a list file, or several of them),
`names` (a list, or a dictionary from number to name) and `nc` (their count, optional).
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from jaxdet.errors import InputError
from jaxdet.formats.text import read_text, shown

_EXPECTED = "a data.yaml with train, val and names"


class ImageSet(NamedTuple):
    """Splits as absolute paths, and the names of the classes."""

    splits: dict[str, str]  # of train, val and test, those that the file names
    class_names: tuple[str, ...]


def read(path: str | os.PathLike) -> ImageSet:
    """Read a `data.yaml`.

    A relative `path` starts in the folder of the file, or else in the working folder; splits start in `path`,
    or in the folder of the file. Roboflow's "../train/images" is also looked for as "train/images". Raises
    InputError for a file that is no such description, and for a split of several folders.
    """
    path, text = Path(path), read_text(path, _EXPECTED)
    try:
        # Aliases can make a small file a large one, and no tool writes them here.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("an alias")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        said = ascii(" ".join(str(error).split()))[1:121]
        raise InputError(f"{path}: not plain YAML ({said}); expected {_EXPECTED}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: a {type(content).__name__}; expected {_EXPECTED}")
    names = _names(path, content.get("names"), content.get("nc"))
    root = content.get("path")
    if root is not None and not isinstance(root, str):
        raise InputError(f"{path}: path is {shown(root)}, expected a folder")
    bases = [path.parent / root, Path(root), path.parent] if root else [path.parent]
    splits = {}
    for split, keys in (("train", ("train",)), ("val", ("val", "valid")), ("test", ("test",))):
        value = next((content[key] for key in keys if content.get(key)), None)
        if value is not None:
            splits[split] = str(_place(path, split, value, bases))
    if not splits:
        raise InputError(f"{path}: no train, val or test; expected {_EXPECTED}")
    return ImageSet(splits, names)


def _names(path: Path, names: Any, count: Any) -> tuple[str, ...]:
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise InputError(f"{path}: names of {shown(list(names))}, expected classes from 0 without a gap")
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(n, (str, int)) for n in names):
        raise InputError(f"{path}: names is {shown(names)}, expected the names of the classes")
    if count is not None and count != len(names):
        raise InputError(f"{path}: nc is {shown(count)} and {len(names)} names; make them agree")
    found = tuple(map(str, names))
    if len(set(found)) < len(found):
        raise InputError(f"{path}: a name stands twice among {', '.join(found)}; expected different names")
    return found


def _place(path: Path, split: str, value: Any, bases: list[Path]) -> Path:
    """The first place that exists, made absolute; the first of all if none does, so that errors name it."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise InputError(f"{path}: {split} is {shown(value)}, expected one folder or list file")
    tried = [base / value for base in bases]
    if value.startswith("../"):
        tried += [base / value.removeprefix("../") for base in bases]
    return next((place for place in tried if place.exists()), tried[0]).absolute()
