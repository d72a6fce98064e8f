"""Print the newest Python of this machine that is newer than the one that runs this; nothing without one.

Looked for are `python3.N` on the PATH and the versions that pyenv has installed.
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path


def newer_than(minor: int, folders: Sequence[Path], pyenv: Path) -> Path | None:
    """The `python3.N` of largest N > `minor` in `folders` or among the versions below `pyenv`."""
    found: dict[tuple[int, int], Path] = {}
    for path in (path for folder in folders for path in folder.glob("python3.*")):
        if match := re.fullmatch(r"python3\.(\d+)", path.name):
            found.setdefault((int(match[1]), 0), path)
    for path in (pyenv / "versions").glob("3.*/bin/python"):
        if match := re.fullmatch(r"3\.(\d+)\.(\d+)", path.parents[1].name):
            found[int(match[1]), int(match[2])] = path
    newest = max(found, default=(0, 0))
    return found[newest] if newest[0] > minor else None


if __name__ == "__main__":
    # A shim of pyenv is on the PATH for versions that are not switched on, too.
    on_path = [Path(text) for text in os.environ["PATH"].split(os.pathsep) if "shims" not in Path(text).parts]
    pyenv_root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    print(newer_than(sys.version_info.minor, on_path, pyenv_root) or "")
