"""Files out of 7z archives, one by one while the archive is still being read.

The 7z program does the work when it is on the PATH, py7zr otherwise (some five times slower). Either runs in a process of
its own, and a file counts only when its size and CRC-32 are those of the archive's directory, whatever the tool says.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxdet.data.processes import exit_with_parent
from jaxdet.errors import InputError

POLL_S = 0.1


class Member(NamedTuple):
    """One file of an archive."""

    name: str
    size: int
    crc32: int


def members(path: str | os.PathLike) -> list[Member]:
    """Files of the archive; raises InputError when it is truncated or none."""
    import py7zr

    try:
        with py7zr.SevenZipFile(Path(path)) as archive:
            entries = [e for e in archive.list() if e.is_file]
            found = [Member(e.filename, e.uncompressed, e.crc32 or 0) for e in entries]
    except OSError:
        raise
    except Exception as error:  # py7zr raises almost anything on a broken file
        raise InputError(
            f"{path}: no whole 7z archive ({type(error).__name__}), its directory is unreadable; download it again"
        ) from error
    return [
        m
        for m in found
        if not PurePosixPath(m.name).is_absolute() and ".." not in PurePosixPath(m.name).parts
    ]


def program() -> str | None:
    """Path of a 7z program, if there is one."""
    return next((found for name in ("7zz", "7z") if (found := shutil.which(name))), None)


def extract(
    path: str | os.PathLike, folder: Path, wanted: Sequence[Member], tool: str | None = None
) -> Iterator[tuple[Member, Path]]:
    """Extract `wanted` into `folder` and yield each file as soon as it is whole; the caller may delete it then.

    `tool` is a 7z program; without it `program()`, without that py7zr. Raises InputError, after the files that are
    good, when the archive is broken or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / ".log"
    arguments = (
        os.fspath(path),
        os.fspath(folder),
        [m.name for m in wanted],
        tool or program(),
        os.fspath(log),
    )
    process = multiprocessing.get_context("spawn").Process(target=_extract, args=arguments, daemon=True)
    process.start()
    pending = {m.name: m for m in wanted}
    tried: dict[str, tuple[int, int]] = {}
    try:
        while pending:
            running = process.is_alive()
            for name in [name for name in pending if _is_whole(folder / name, pending[name], tried)]:
                yield pending.pop(name), folder / name
            if not running:
                break
            time.sleep(POLL_S)
        process.join()
        if pending:
            raise InputError(_complaint(path, log, pending))
    finally:
        process.kill()
        process.join()


def _is_whole(file, member, tried):
    try:
        state = file.stat()
    except FileNotFoundError:
        return False
    # Some tools give a file its full size first: ask again when it has been written to.
    stamp = (state.st_size, state.st_mtime_ns)
    if state.st_size != member.size or tried.get(member.name) == stamp:
        return False
    tried[member.name] = stamp
    crc = 0
    with open(file, "rb") as handle:
        while block := handle.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc == member.crc32


def _complaint(path, log, pending):
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    said = [line.strip() for line in lines if "error" in line.lower() or "space" in line.lower()] or [
        "no reason given"
    ]
    gigabytes = sum(m.size for m in pending.values()) / 1e9
    return (
        f"{path}: {len(pending)} files could not be extracted, first {next(iter(pending))} ({said[0][:200]}); "
        f"expected a whole archive and {gigabytes:.3g} GB of free disk; free some or download it again"
    )


def _extract(archive, folder, names, tool, log):
    """Body of the extracting process."""
    children: list[subprocess.Popen] = []
    exit_with_parent(lambda: [child.kill() for child in children])
    with open(log, "w") as output:
        if tool is None:
            sys.exit(_extract_in_python(archive, folder, names, output))
        listing = Path(log).with_suffix(".names")
        listing.write_text("".join(f"{name}\n" for name in names))
        command = [tool, "x", "-y", "-bd", "-scsUTF-8", f"-o{folder}", archive, f"@{listing}"]
        children.append(
            subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        )
        sys.exit(children[0].wait())


def _extract_in_python(archive, folder, names, output):
    import py7zr

    try:
        with py7zr.SevenZipFile(archive) as handle:
            handle.extract(folder, targets=names)
    except Exception as error:  # py7zr raises almost anything on a broken file
        print(f"error: {type(error).__name__}: {error}", file=output)
        return 1
    return 0
