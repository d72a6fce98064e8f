"""Files that are either whole or absent, and names of foreign origin that become file names."""

import hashlib
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxdet.errors import InputError

_LEFTOVER = re.compile(r"\..+\.partial(\.[^.]*)?")  # of a file, see `_temporary`, or of a folder
VERSION_KEY = "format_version"  # of JSON files and archives that are written here
MAX_NAME_BYTES = 200  # file systems allow 255; suffixes such as `_td.npy` come on top


def stamped(content: Mapping[str, Any], version: int = 1) -> dict[str, Any]:
    """The content of a JSON file with the version of its format in front."""
    return {VERSION_KEY: version, **content}


def check_version(content: Mapping[str, Any], path: str | os.PathLike, known: int = 1) -> None:
    """Raise InputError if `content` of the file `path` is of a newer version of its format than `known`.

    Files of before there were versions count as the first.
    """
    found = content.get(VERSION_KEY, 1)
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise InputError(f"{path}: {VERSION_KEY} {found!a:.40}, expected a whole number from 1 on")
    if found > known:
        raise InputError(f"{path}: {VERSION_KEY} {found}, up to {known} is known; update jaxdet")


def safe_name(name: Any, what: str) -> str:
    """Return `name`, which came from a file or an archive, once it is fit to be part of a file name.

    Raises InputError for a value that is not text, is empty, `.`, `..`, too long, or holds a separator of
    paths (of any system), a control character or bytes that are no text. `what` says in the message whose
    name it is.
    """
    fault = _fault(name)
    if fault is None:
        return name
    shown = ascii(name) if len(ascii(name)) <= 80 else ascii(name)[:80] + "..."
    raise InputError(f"{what} {shown} {fault}, expected a plain file name; rename it")


def visible_name(name: Any, what: str) -> str:
    """As `safe_name`, for a name that readers must find, which skip hidden files and folders."""
    if safe_name(name, what).startswith("."):
        raise InputError(f"{what} {name!a} begins with a dot, expected one that is not hidden; rename it")
    return name


def safe_path(path: Any, what: str) -> str:
    """As `safe_name`, for a relative path whose parts are separated by `/`."""
    for part in path.split("/") if isinstance(path, str) else [path]:
        safe_name(part, f"{what} {path!a}:" if part != path else what)
    return path


def _fault(name: Any) -> str | None:
    if not isinstance(name, str):
        return f"is a {type(name).__name__}"
    if name in ("", ".", ".."):
        return "names no file"
    if "/" in name or "\\" in name:
        return "holds a separator of paths"
    # Cc are control characters, Cs halves of surrogate pairs (undecodable bytes), Zl and Zp line breaks.
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
        return "holds a control character"
    size = len(name.encode())
    return f"is {size} bytes long (up to {MAX_NAME_BYTES} fit)" if size > MAX_NAME_BYTES else None


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield an empty temporary file beside `path`; on success flush it to disk and give it the final name.

    The file is new: what another program put under its name, a symbolic link included, is never written to.
    On any exception, a full disk included, the temporary file is removed and `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.strerror and error.filename is None:  # a write to a full disk does not say where
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def finished(paths: Iterable[Path], root: str | os.PathLike) -> list[Path]:
    """`paths`, which lie below `root`, sorted, without what a killed run left unfinished there.

    That is what has, or lies in a folder that has, the name of a temporary file or folder of this package.
    """
    whole = (p for p in paths if not any(_LEFTOVER.fullmatch(part) for part in p.relative_to(root).parts))
    return sorted(whole)


def put_link(source: str | os.PathLike, target: str | os.PathLike, hard: bool) -> None:
    """Make `target` a link to `source`; a hard link that the file systems refuse becomes a symbolic one.

    An older file of that name is replaced in one step.
    """
    source, target = Path(source), Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    if not (hard and _links_hard(source, temporary)):
        temporary.symlink_to(source.resolve())
    try:
        os.replace(temporary, target)
    finally:
        # Replacing a link by another one to the same file leaves both names.
        temporary.unlink(missing_ok=True)


def _links_hard(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def _temporary(path: Path) -> Path:
    """A hidden name beside `path` that nobody can guess.

    The suffix is kept: writers such as numpy and OpenCV choose the format by it.
    """
    return path.with_name(f".{path.stem[:32]}.{secrets.token_hex(8)}.partial{path.suffix}")


def sha256(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
