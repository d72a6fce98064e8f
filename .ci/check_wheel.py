"""Compare the contents of a wheel with the tracked files: `python .ci/check_wheel.py FILE.whl`."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"}


def expected() -> set[str]:
    """Tracked files of the package; the configs travel as `jaxdet.configs`."""
    command = ["git", "ls-files", "jaxdet", "configs"]
    tracked = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return {f"jaxdet/{path}" if path.startswith("configs/") else path for path in tracked}


def found(wheel: str) -> tuple[set[str], set[str]]:
    """Files of the package in a wheel, and files of its metadata folder."""
    folder = "-".join(Path(wheel).name.split("-")[:2]) + ".dist-info/"
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    metadata = {name for name in names if name.startswith(folder)}
    return names - metadata, {name.removeprefix(folder) for name in metadata}


def main(wheel: str) -> str | None:
    """A line that says what differs, or None."""
    files, metadata = found(wheel)
    missing, more = expected() - files, files - expected()
    missing, more = missing | (METADATA - metadata), more | (metadata - METADATA)
    if missing or more:
        return (
            f"{wheel}: {sorted(missing)} missing, {sorted(more)} not expected; see pyproject.toml, packages"
        )
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
