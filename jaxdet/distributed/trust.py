"""The secret of a job, and what it proves: that bytes were written by one of the job's processes, under this very name."""

import hmac
from collections.abc import Mapping
from hashlib import sha256

from jaxdet.distributed.environment import Place
from jaxdet.errors import InputError

VARIABLE = "JAXDET_JOB_SECRET"
SHORTEST = 16  # characters: what is shorter can be guessed
SIZE = sha256().digest_size  # bytes of a mark


class Forged(InputError):
    """Bytes that no process of this job wrote under the name where they were found."""


class Key:
    """A secret that all processes of a job know. It never travels, is in no message and in no repr."""

    def __init__(self, secret: bytes):
        self._secret = secret

    def mark(self, *parts: bytes) -> bytes:
        """HMAC-SHA256 of `parts`, each with its length, so that no other division into parts has the same."""
        framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._secret, framed, "sha256")

    def derive(self, *parts: bytes) -> "Key":
        """Another key, that of `parts`."""
        return Key(self.mark(b"derive", *parts))

    def is_mark(self, found: bytes, *parts: bytes) -> bool:
        """Whether `found` is the mark of `parts`; the time taken does not depend on where they differ."""
        return hmac.compare_digest(found, self.mark(*parts))

    def seal(self, name: str, data: bytes) -> bytes:
        """`data` behind its mark under `name`."""
        return self.mark(b"seal", name.encode(), data) + data

    def open(self, name: str, sealed: bytes) -> bytes:
        """What `seal` was given; Forged where the mark is not that of these bytes under this name."""
        mark, data = sealed[:SIZE], sealed[SIZE:]
        if not self.is_mark(mark, b"seal", name.encode(), data):
            raise Forged(
                f"what the coordinator holds as {name} was not written by a process of this job; another program "
                "reaches the coordinator: run the job in a network that you trust"
            )
        return data


def key(environ: Mapping[str, str], place: Place) -> Key:
    """The key of the job from JAXDET_JOB_SECRET, which its launcher gives to all processes; InputError without one."""
    secret = environ.get(VARIABLE, "")
    if not secret:
        raise InputError(
            f"a job of {place.count} processes ({place.told_by}) without {VARIABLE}: any program that reaches its "
            f'coordinator could take part; set it alike for all, such as {VARIABLE}="$(openssl rand -hex 32)"'
        )
    if len(secret) < SHORTEST:
        raise InputError(
            f"{VARIABLE} has {len(secret)} characters, expected at least {SHORTEST}; "
            f'set it alike for all processes, such as {VARIABLE}="$(openssl rand -hex 32)"'
        )
    return Key(secret.encode("utf-8", "surrogateescape"))
