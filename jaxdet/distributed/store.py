"""Exchange of bytes through the coordinator's key-value store, each piece marked with the job's key.

Marks are those of a session: its key depends on a random number from every process, so what an earlier run of
the same job wrote, under the same secret, is foreign as well.
"""

import os
from typing import Any

from jaxdet.distributed.trust import Forged, Key

FOLDER = "jaxdet"
_CHUNK = 1 << 20  # bytes a message of the coordinator
LONG_MS = 30 * 24 * 3600 * 1000  # the watch ends what waits in vain
_NONCE = 32  # bytes
_MORE, _LAST = b"+", b"."


class Store:
    """The store of this process's job. `client` has the methods of JAX's distributed client."""

    def __init__(self, client: Any, key: Key, process: int, count: int):
        self.client, self.process, self.count = client, process, count
        self.key = key

    def shake_hands(self, timeout_s: float) -> None:
        """Find that every process knows the secret and is here now; from then on the session's key is used.

        Raises Forged, and names the process, where one shows nothing in time or something that the key did
        not make.
        """
        hello = self._exchanged("hello", os.urandom(_NONCE), timeout_s)
        self.key = self.key.derive(str(self.count).encode(), *hello)
        self._exchanged("proof", b"", timeout_s)  # an old hello that somebody repeats has no proof

    def put(self, name: str, data: bytes) -> None:
        """Leave `data` under `name` for the others, in pieces."""
        starts = range(0, max(len(data), 1), _CHUNK)
        for i, start in enumerate(starts):
            flag = _LAST if i == len(starts) - 1 else _MORE
            self.set(f"{name}/{self.process}/{i}", flag + data[start : start + _CHUNK])

    def get(self, name: str, process: int) -> bytes:
        """Wait for the bytes that `process` left under `name`; Forged if another program wrote them."""
        parts, flag = [], _MORE
        while flag == _MORE:
            part = self._get(f"{name}/{process}/{len(parts)}", LONG_MS)
            flag = part[:1]
            parts.append(part[1:])
        return b"".join(parts)

    def delete(self, name: str) -> None:
        """Delete what this process left under `name`."""
        self.client.key_value_delete(f"{FOLDER}/{name}/{self.process}/")

    def _exchanged(self, name: str, own: bytes, timeout_s: float) -> list[bytes]:
        self.set(f"{name}/{self.process}", own)
        return [self._shown(name, process, timeout_s) for process in range(self.count)]

    def _shown(self, name: str, process: int, timeout_s: float) -> bytes:
        try:
            return self._get(f"{name}/{process}", round(1000 * timeout_s))
        except Forged as error:
            raise Forged(_taken(process, "showed a wrong proof")) from error
        except Exception as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
            raise Forged(_taken(process, f"showed no proof within {timeout_s:.0f} s")) from error

    def set(self, name: str, data: bytes) -> None:
        """Leave `data`, at most a megabyte, under `name`, in place of what is there."""
        # A stranger may have been there before; whoever has read that has ended the job.
        sealed = self.key.seal(name, data)
        self.client.key_value_set_bytes(f"{FOLDER}/{name}", sealed, allow_overwrite=True)

    def _get(self, name: str, timeout_ms: int) -> bytes:
        return self.key.open(name, self.client.blocking_key_value_get_bytes(f"{FOLDER}/{name}", timeout_ms))


def _taken(process: int, done: str) -> str:
    return (
        f"the seat of process {process} is taken by a program that {done} of the job's secret; "
        "run the job in a network that you trust, with one JAXDET_JOB_SECRET on all processes"
    )
