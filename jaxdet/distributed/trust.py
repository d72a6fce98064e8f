"""The secret of a job and the marks (HMAC) made with it.

A mark proves that a process of the job wrote these bytes under this very name. The secret is
JAXDET_JOB_SECRET; without it, a key of the user, kept in a file that only the user can read.
"""

import hmac
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from jaxdet.distributed import flags
from jaxdet.errors import InputError

VARIABLE = "JAXDET_JOB_SECRET"
SHORTEST = 16  # characters: what is shorter can be guessed
FILE = "job_secret"  # in the user's cache folder
SIZE = sha256().digest_size  # bytes of a mark


class Forged(InputError):
    """Bytes that were not written by a process of this job under the name where they were found."""


class Key:
    """A secret that all processes of a job know. It is never sent, and appears in no message and no repr."""

    def __init__(self, secret: bytes):
        self._secret = secret

    def mark(self, *parts: bytes) -> bytes:
        """HMAC-SHA256 of `parts`, each with its length, so that no other division into parts has the same."""
        framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._secret, framed, "sha256")

    def derive(self, *parts: bytes) -> "Key":
        """The key that belongs to `parts`, computed from this one."""
        return Key(self.mark(b"derive", *parts))

    def is_mark(self, found: bytes, *parts: bytes) -> bool:
        """True if `found` is the mark of `parts`; the time taken does not depend on where the two differ."""
        return hmac.compare_digest(found, self.mark(*parts))

    def seal(self, name: str, data: bytes) -> bytes:
        """Put the mark of `data` under `name` in front of `data`."""
        return self.mark(b"seal", name.encode(), data) + data

    def open(self, name: str, sealed: bytes) -> bytes:
        """Return the data that `seal` was given; Forged if the mark is not that of it and `name`."""
        mark, data = sealed[:SIZE], sealed[SIZE:]
        if not self.is_mark(mark, b"seal", name.encode(), data):
            raise Forged(
                f"the coordinator's value {name} was not written by a process of this job: another program "
                "reaches the coordinator; run the job in a network that you trust"
            )
        return data


def key(environ: Mapping[str, str]) -> Key:
    """The key of the job: JAXDET_JOB_SECRET, else the user's own key, which is made on first use.

    Raises InputError if the variable is too short, or if the user's key cannot be made or could be known to
    others.
    """
    secret = environ.get(VARIABLE, "")
    if not secret:
        return Key(_user_secret(flags.user_folder(environ) / FILE))
    if len(secret) < SHORTEST:
        raise InputError(
            f"{VARIABLE} has {len(secret)} characters, expected at least {SHORTEST}; "
            f'set it alike for all processes, such as {VARIABLE}="$(openssl rand -hex 32)"'
        )
    return Key(secret.encode("utf-8", "surrogateescape"))


def _user_secret(path: Path) -> bytes:
    """The secret in the file `path`; the first process of the user that needs it makes the file."""
    try:
        if not os.path.lexists(path):
            _make(path)
        return _read(path)
    except OSError as error:
        raise InputError(
            f"the user's key {path} cannot be made or read ({error.strerror or error}); "
            f"set {VARIABLE} alike for all processes"
        ) from error


def _make(path: Path) -> None:
    """Write a new secret to `path`, whole and closed to others, unless another process was faster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The temporary file is new and has mode 0600. A link, unlike a renaming, replaces nothing.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{FILE}.") as file:
        file.write(secrets.token_hex(32).encode())
        file.flush()
        os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(file.name, path)


def _read(path: Path) -> bytes:
    """The secret in `path`; raises InputError unless the file is the user's, closed to others and whole."""
    # A link could lead to a file of anybody's choice, and opening a pipe would wait.
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        secret = file.read(65) if stat.S_ISREG(status.st_mode) else b""
    if status.st_uid != os.geteuid():
        fault = f"belongs to another user (id {status.st_uid})"
    elif status.st_mode & 0o077:
        fault = f"has mode {stat.S_IMODE(status.st_mode):04o}, expected 0600: others can read or change it"
    elif not re.fullmatch(rb"[0-9a-f]{64}", secret):
        fault = "does not hold 64 hexadecimal digits"
    else:
        return secret
    raise InputError(
        f"the user's key {path} {fault}; remove it, and a new one is made, "
        f"or set {VARIABLE} alike for all processes"
    )
