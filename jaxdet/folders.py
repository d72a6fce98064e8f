"""Folders that this program made: the only ones it removes or replaces.

Such a folder holds a marker, a JSON file that says what the folder is and what lies in it, at any depth.
While it is being made there is no list yet, and all that lies in it is ours. Nothing is removed without a
marker of the expected kind, nor where something lies beside what the marker lists: it may be the user's.
Symbolic links are never followed.
"""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from jaxdet.errors import InputError
from jaxdet.files import atomic

MARKER = ".jaxdet"
_FORMAT = 1

# Tells whether a folder without a marker is one that version 0.1.0 made.
MadeBefore = Callable[[Path], bool]


def begin(folder: str | os.PathLike, kind: str) -> Path:
    """Make the empty folder `folder`, which is all ours until `finish`; InputError if it is not empty."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not _is_blank(folder):
        raise InputError(f"{folder} is not empty, expected no such folder; move it away")
    _mark(folder, kind, None)
    return folder


def finish(folder: str | os.PathLike, kind: str) -> None:
    """List in the marker what lies in `folder` now; anything that comes later is not ours."""
    folder = Path(folder)
    _mark(folder, kind, sorted(_entries(folder)))


def check_own(folder: str | os.PathLike, kind: str, made_before: MadeBefore | None = None) -> None:
    """Raise InputError unless `folder` may be removed: it is absent, empty, or of this kind and ours."""
    folder = Path(folder)
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        found = "a symbolic link" if folder.is_symlink() else "a file"
        raise InputError(
            f"{folder} is {found}, expected a folder made here; move it away or choose another name"
        )
    if _is_blank(folder):
        return
    marker = _read_marker(folder)
    if marker is None and made_before is not None and made_before(folder):
        return
    if marker is None or marker["jaxdet"] != kind:
        raise InputError(
            f"{folder} was not made here as {kind} and is not replaced; move it away or choose another name"
        )
    listed = marker["entries"]
    foreign = [] if listed is None else sorted(_entries(folder) - set(listed))
    if foreign:
        raise InputError(
            f"{folder} holds {foreign[0]!a}, which was not made here, and is not replaced; "
            "move that away first"
        )


def is_own(folder: str | os.PathLike, kind: str) -> bool:
    """True if `folder` exists and `check_own` accepts it."""
    try:
        check_own(folder, kind)
    except InputError:
        return False
    return os.path.lexists(folder)


def remove_own(folder: str | os.PathLike, kind: str, made_before: MadeBefore | None = None) -> None:
    """Remove a folder of this kind that we made, if it exists; any other is an InputError and stays."""
    folder = Path(folder)
    check_own(folder, kind, made_before)
    if not os.path.lexists(folder):
        return
    if not _is_blank(folder) and _read_marker(folder) is None:
        finish(folder, kind)
    # The marker goes last, so that a removal that was cut short can be taken up again.
    for name in os.listdir(folder):
        if name != MARKER:
            _remove(folder / name)
    (folder / MARKER).unlink(missing_ok=True)
    folder.rmdir()


def discard(folder: str | os.PathLike, kind: str) -> None:
    """Remove a folder of this kind that we made, if possible, at the end of work that may have failed.

    What cannot be removed now is left to the `remove_own` that the next run begins with.
    """
    with contextlib.suppress(OSError):
        remove_own(folder, kind)


def remove_inside(folder: str | os.PathLike, kind: str, path: str | os.PathLike) -> None:
    """Remove the file or folder `path`, if it is there, from below an unfinished folder that we made.

    Raises InputError when `folder` is none, or `path` lies outside it.
    """
    folder, path = Path(folder), Path(path)
    marker = _read_marker(folder)
    if marker is None or marker["jaxdet"] != kind or marker["entries"] is not None:
        raise InputError(
            f"{folder} was not made here as {kind}; {path.name} in it is left alone, remove it by hand"
        )
    place = path.parent.resolve()
    if path.name in ("", "..") or not (place == folder.resolve() or place.is_relative_to(folder.resolve())):
        raise InputError(f"{path} lies outside {folder} and is left alone")
    if os.path.lexists(path):
        _remove(path)


def replace_own(
    new: str | os.PathLike, folder: str | os.PathLike, kind: str, made_before: MadeBefore | None = None
) -> None:
    """Rename `new`, a finished folder of ours, to `folder`; an older one of the kind is removed after that.

    At any moment the old or the new folder is whole: they change names in one step. Where the file system
    cannot do that, the old one is called `.<name>.old` in between, and `settle` gives it its name back after
    a kill.
    """
    new, folder = Path(new), Path(folder)
    settle(folder, kind)
    check_own(folder, kind, made_before)
    if not os.path.lexists(folder):
        os.rename(new, folder)
        return
    if _read_marker(folder) is None:
        finish(folder, kind)
    try:
        _exchange(new, folder)
        old = new
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
            raise
        old = aside(folder)
        os.rename(folder, old)
        os.rename(new, folder)
    remove_own(old, kind)


def settle(folder: str | os.PathLike, kind: str) -> None:
    """Complete a killed `replace_own`: remove the folder set aside if the new one exists, else restore it."""
    folder = Path(folder)
    old = aside(folder)
    if not is_own(old, kind):
        return
    if os.path.lexists(folder):
        remove_own(old, kind)
    else:
        os.rename(old, folder)


def aside(folder: str | os.PathLike) -> Path:
    """Path of the older folder in `replace_own` where two folders cannot change names in one step."""
    folder = Path(folder)
    return folder.with_name(f".{folder.name}.old")


def _mark(folder: Path, kind: str, entries: list[str] | None) -> None:
    with atomic(folder / MARKER) as temporary:
        temporary.write_text(json.dumps({"jaxdet": kind, "format": _FORMAT, "entries": entries}) + "\n")


def _read_marker(folder: Path) -> dict | None:
    """Content of the marker, None if there is no marker of ours."""
    path = folder / MARKER
    if folder.is_symlink() or path.is_symlink() or not path.is_file():
        return None
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        listed = found["entries"] if isinstance(found, dict) and {"jaxdet", "entries"} <= set(found) else 0
        if listed is None or (isinstance(listed, list) and all(isinstance(name, str) for name in listed)):
            return found
    return None


def _entries(folder: Path) -> set[str]:
    """Paths of all files and folders below `folder`, relative to it, without its marker."""
    found = set()
    for place, inside, names in os.walk(folder):
        found.update(os.path.relpath(os.path.join(place, name), folder) for name in [*inside, *names])
    return found - {MARKER}


def _is_blank(folder: Path) -> bool:
    """True if the folder holds nothing but our marker, or one that a kill left unfinished."""
    names = os.listdir(folder)
    return all(
        name == MARKER or (name.startswith(f".{MARKER}.") and name.endswith(".partial")) for name in names
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _exchange(a: Path, b: Path) -> None:
    """Two names change places in one step; OSError where the system or the file system cannot do it."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(a))
    at_working_folder, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of linux/fs.h
    if call(at_working_folder, os.fsencode(a), at_working_folder, os.fsencode(b), exchange):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(b))
