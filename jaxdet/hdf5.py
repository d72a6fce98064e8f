"""HDF5 files of others, opened only when all their data lies in the file itself.

HDF5 follows a link to another file, and reads the bytes of a dataset from any file that it names, without a
word. A file of a stranger could thus show what lies elsewhere on the disk as its own data.
"""

import os
from pathlib import Path
from typing import Any

import h5py
from h5py import h5d, h5l, h5o  # pyright: ignore[reportAttributeAccessIssue]

from jaxdet.errors import InputError


def open_own(path: str | os.PathLike, expected: str) -> Any:
    """Open an HDF5 file for reading. `expected` says in messages what it should be.

    Raises InputError when it is not an HDF5 file or damaged, and for links other than hard ones, external
    storage and virtual datasets.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; expected {expected}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: not an HDF5 file, or cut short; expected {expected}") from error
    try:
        fault = _fault(file)
    except Exception as error:  # h5py raises almost anything on a damaged file
        fault = f"damaged ({type(error).__name__})"
    if fault is not None:
        file.close()
        raise InputError(f"{path}: {fault}, expected {expected} with all data in the file itself")
    return file


def _fault(file: h5py.File) -> str | None:
    """Describe the first part that leads to data elsewhere or is damaged, or None; no link is followed."""

    def visit(name: bytes, link: Any) -> str | None:
        # An exception does not pass through the library; what is returned ends the visit.
        try:
            return _fault_of(file, name, link)
        except Exception as error:
            return f"{name.decode(errors='replace')!a} is damaged ({type(error).__name__})"

    return file.id.links.visit(visit, info=True)


def _fault_of(file: h5py.File, name: bytes, link: Any) -> str | None:
    shown = ascii(name.decode(errors="replace"))
    if link.type != h5l.TYPE_HARD:
        kinds = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "a link to another file"}
        return f"{shown} is {kinds.get(link.type, 'a link of a foreign kind')}"
    node = h5o.open(file.id, name)
    if isinstance(node, h5d.DatasetID):
        made = node.get_create_plist()
        if made.get_layout() == h5d.VIRTUAL:
            return f"{shown} is a virtual dataset, pieced together from others"
        if made.get_external_count():
            return f"{shown} keeps its data in another file"
    return None
