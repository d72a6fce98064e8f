"""Files from 7z archives, one by one while the archive is still being extracted.

The 7z program extracts when it is on the PATH, py7zr otherwise (about five times slower). Either runs in a
process of its own. A file is accepted only when its size and CRC-32 are those in the archive's directory,
whatever the tool reports.
"""

import multiprocessing
import os
import shutil
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from jaxdet.data.processes import exit_with_parent
from jaxdet.errors import InputError
from jaxdet.files import safe_name

POLL_S = 0.1
PRINTED = 16_000  # characters of a tool's output that are kept; a pipe holds 64 kB until it is read


class Member(NamedTuple):
    """One file of an archive."""

    name: str
    size: int
    crc32: int


def members(path: str | os.PathLike) -> list[Member]:
    """List the files of the archive; their names are not checked (see `check_name`).

    Raises InputError when it is truncated or not a 7z archive.
    """
    import py7zr

    try:
        with py7zr.SevenZipFile(Path(path)) as archive:
            entries = [e for e in archive.list() if e.is_file]
            return [Member(e.filename, e.uncompressed, e.crc32 or 0) for e in entries]
    except OSError:
        raise
    except Exception as error:  # py7zr raises almost anything on a broken file
        raise InputError(
            f"{path}: its directory is unreadable ({type(error).__name__}), expected a complete 7z archive; "
            "download it again"
        ) from error


def check_name(name: str) -> None:
    """Raise InputError for a member whose name leads out of the target folder or is not a plain file name."""
    for part in PurePosixPath(name).parts:
        safe_name(part, f"member {name!a}: part")


def program() -> str | None:
    """Path of a 7z program, if there is one."""
    return next((found for name in ("7zz", "7z") if (found := shutil.which(name))), None)


def extract(
    path: str | os.PathLike, folder: Path, wanted: Sequence[Member], tool: str | None = None
) -> Iterator[tuple[Member, Path]]:
    """Extract `wanted` into `folder` and yield each file once it is complete; the caller may then delete it.

    `tool` is the path of a 7z program, by default `program()`; if there is no such program, py7zr extracts.
    Raises InputError for a name that `check_name` refuses and, after the intact files, when the archive is
    broken or the disk is full.
    """
    for member in wanted:
        check_name(member.name)
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (os.fspath(path), os.fspath(folder), [m.name for m in wanted], tool or program(), sender)
    process = context.Process(target=_extract, args=arguments, daemon=True)
    process.start()
    sender.close()
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
        if pending:
            raise InputError(_complaint(path, receiver, pending))
    finally:
        process.terminate()
        process.join()


def _is_whole(file: Path, member: Member, tried: dict[str, tuple[int, int]]) -> bool:
    """True if the file has the size and the checksum of its member; `tried` keeps what failed, by name."""
    try:
        state = file.stat()
    except FileNotFoundError:
        return False
    # Some tools allocate a file at its full size first: check again only after it has been written to.
    stamp = (state.st_size, state.st_mtime_ns)
    if state.st_size != member.size or tried.get(member.name) == stamp:
        return False
    tried[member.name] = stamp
    crc = 0
    with open(file, "rb") as handle:
        while block := handle.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc == member.crc32


def _complaint(path: str | os.PathLike, receiver: Connection, pending: Mapping[str, Member]) -> str:
    """Line on the files that did not come out, with the reason that the tool gave."""
    try:
        lines = [line.strip() for line in receiver.recv().splitlines()]
    except EOFError:
        lines = ["error: the extracting process was killed"]
    reasons = (line for line in lines if "error" in line.lower() or "space" in line.lower())
    reason = next(reasons, "no reason given")
    gigabytes = sum(m.size for m in pending.values()) / 1e9
    return (
        f"{path}: {len(pending)} files could not be extracted, "
        f"the first is {next(iter(pending))} ({reason[:200]}); "
        f"expected a complete archive and {gigabytes:.3g} GB of free disk; free some or download it again"
    )


def _extract(archive: str, folder: str, names: list[str], tool: str | None, sender: Connection) -> None:
    """Body of the extracting process; sends what the tool printed."""
    children: list[subprocess.Popen] = []

    def stop(*_: Any) -> None:
        for child in children:
            child.kill()
        os._exit(1)

    signal.signal(signal.SIGTERM, stop)
    exit_with_parent(stop)
    if tool is None:
        sender.send(_extract_in_python(archive, folder, names))
        return
    # -spd turns off wildcards, which would match other members.
    command = [tool, "x", "-y", "-bd", "-spd", "-sccUTF-8", f"-o{folder}", "--", archive, *names]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
    ) as child:
        children.append(child)
        sender.send(child.communicate()[0][:PRINTED])


def _extract_in_python(archive: str, folder: str, names: list[str]) -> str:
    """Extract by py7zr; a line on its error, or ""."""
    import py7zr

    try:
        with py7zr.SevenZipFile(archive) as handle:
            handle.extract(folder, targets=names)
    except Exception as error:  # py7zr raises almost anything on a broken file
        return f"error: {type(error).__name__}: {error}"
    return ""
