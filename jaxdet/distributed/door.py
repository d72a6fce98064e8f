"""The way to the coordinator: only processes that prove the job's secret get through.

JAX's service asks nobody for a name, gives a seat to whoever comes first, and ends the job when a seat is
asked for twice. It therefore listens on a socket in a private folder of process 0. At the coordinator's own
address stands a `Door`, which hands on the bytes of those who prove that they know the secret; the others
reach it through a `Seat` of their own. Both sides prove themselves: HMAC over a random number of each.
Nothing is encrypted.

A connection: the door sends MAGIC and its number; the process sends its own number (`_HELLO`), what it wants
and a mark; the door answers REFUSED, or ACCEPTED and a mark. JOIN waits for GO, which comes when all
processes are there; TUNNEL goes on to JAX's service.
"""

import logging
import os
import socket
import struct
import threading
import time
from contextlib import suppress

from jaxdet.distributed import tunnel
from jaxdet.distributed.trust import SIZE, Key
from jaxdet.errors import InputError

logger = logging.getLogger(__name__)

MAGIC = b"jaxdet 1"
JOIN, TUNNEL, REFUSED, ACCEPTED, GO = b"J", b"T", b"n", b"y", b"g"
_HELLO = struct.Struct(">cI32s")  # what is wanted, number of the process, random number
_NONCE = 32
_PATIENCE_S = 10  # for each message of a handshake
# Handshakes at once: more than processes of a job come at the same moment, fewer than exhaust this one.
_AT_ONCE = 128
_TOLD = 3  # strangers that are named one by one


class Door:
    """Process 0's side. `service` is the path of the socket on which JAX's service is to listen."""

    def __init__(self, address: str, key: Key, count: int):
        self._address, self._key, self._count = address, key, count
        self.service = tunnel.private_folder() / "service"
        self._joined: dict[int, socket.socket] = {}
        self._changed = threading.Condition()
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        self._strangers = 0
        self._tunnels = tunnel.Tunnels()
        self._listener = _listen(address)
        tunnel.spawn(self._accept_all)

    def wait(self, timeout_s: float) -> None:
        """Wait for all processes, then let them proceed; InputError names those that did not come in time."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._joined) == self._count - 1, timeout_s)
            missing = [str(p) for p in range(1, self._count) if p not in self._joined]
            for connection in self._joined.values():
                with suppress(OSError), connection:
                    if not missing:
                        connection.sendall(GO)
        if missing:
            strangers = (
                f"; {self._strangers} connections without the job's secret were turned away: "
                "set JAXDET_JOB_SECRET alike for all processes"
            )
            raise InputError(
                f"process {', '.join(missing[:20])} of {self._count} did not come to the coordinator "
                f"{self._address} within {timeout_s:.0f} s{strangers if self._strangers else ''}; "
                "check that all processes start and the port is open"
            )

    def close(self) -> None:
        """Let nobody else in and wait until what JAX's service said last has reached the others."""
        tunnel.stop(self._listener)
        self._tunnels.wait(_PATIENCE_S)

    def _accept_all(self) -> None:
        while True:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0:
                    return
                time.sleep(0.1)  # the other end is gone already, or there are too many open files
                continue
            if self._free.acquire(blocking=False):
                tunnel.spawn(self._receive, connection, peer[0])
            else:
                connection.close()

    def _receive(self, connection: socket.socket, host: str) -> None:
        try:
            try:
                wanted, process = self._examine(connection)
            finally:
                self._free.release()
        except (OSError, ValueError):
            self._turn_away(connection, host)
            return
        if wanted == JOIN:
            self._join(connection, process)
        else:
            with suppress(OSError):  # JAX's service is gone: so is the job
                self._tunnels.join(connection, tunnel.connect_local(self.service))

    def _examine(self, connection: socket.socket) -> tuple[bytes, int]:
        """The request of the other side and its number; ValueError or OSError if it proves nothing."""
        connection.settimeout(_PATIENCE_S)
        own = MAGIC + os.urandom(_NONCE)
        connection.sendall(own)
        hello = _read(connection, _HELLO.size)
        mark = _read(connection, SIZE)
        wanted, process, _ = _HELLO.unpack(hello)
        if not self._key.is_mark(mark, b"process", own, hello):
            raise ValueError("wrong mark")
        if wanted not in (JOIN, TUNNEL) or not 0 < process < self._count:
            raise ValueError("no such process")
        connection.sendall(ACCEPTED + self._key.mark(b"door", own, hello))
        connection.settimeout(None)
        return wanted, process

    def _join(self, connection: socket.socket, process: int) -> None:
        with self._changed:
            before = self._joined.get(process)
            self._joined[process] = connection
            self._changed.notify_all()
        if before is not None:  # it died and came again, or two were given one number
            before.close()

    def _turn_away(self, connection: socket.socket, host: str) -> None:
        with suppress(OSError), connection:
            connection.sendall(REFUSED)
        self._strangers += 1
        if self._strangers <= _TOLD:
            logger.warning("turned away a program on %s that does not prove the job's secret", host)


class Seat:
    """The side of the other processes. `service` is the path of a socket that leads to JAX's service."""

    def __init__(self, address: str, key: Key, process: int):
        self._address, self._key, self._process = address, key, process
        self.service = tunnel.private_folder() / "service"
        self._tunnels = tunnel.Tunnels()
        self._listener = tunnel.listen_local(self.service)
        tunnel.spawn(self._accept_all)

    def wait(self, timeout_s: float) -> None:
        """Wait for process 0, then for all others; InputError if this takes longer or the door refuses."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                connection = self._open(JOIN)
                break
            except InputError:
                raise
            except (OSError, ValueError) as error:
                if time.monotonic() > end:
                    raise self._error(f"did not reach the coordinator {self._address} ({error})") from error
                time.sleep(0.2)
        with connection:
            # Longer than process 0 waits, which says who is missing.
            connection.settimeout(max(end - time.monotonic(), 1) + _PATIENCE_S)
            try:
                answer = connection.recv(1)
            except OSError as error:
                raise self._error(f"waited {timeout_s:.0f} s for the others") from error
        if answer != GO:
            raise self._error(
                f"was sent away by the coordinator {self._address}, which ended or met it twice"
            )

    def close(self) -> None:
        """Open no further connection."""
        tunnel.stop(self._listener)

    def _error(self, what: str) -> InputError:
        return InputError(
            f"process {self._process} {what}; check that all processes start, once each, and the port is open"
        )

    def _accept_all(self) -> None:
        while True:
            try:
                local, _ = self._listener.accept()
            except OSError:
                return
            tunnel.spawn(self._lead, local)

    def _lead(self, local: socket.socket) -> None:
        try:
            connection = self._open(TUNNEL)
        except (OSError, ValueError):  # JAX tries again
            local.close()
            return
        self._tunnels.join(local, connection)

    def _open(self, wanted: bytes) -> socket.socket:
        """A connection through the door; InputError if refused, ValueError or OSError if out of reach."""
        connection = socket.create_connection(tunnel.split(self._address), timeout=_PATIENCE_S)
        try:
            theirs = _read(connection, len(MAGIC) + _NONCE)
            if not theirs.startswith(MAGIC):
                raise ValueError("something else listens there")
            hello = _HELLO.pack(wanted, self._process, os.urandom(_NONCE))
            connection.sendall(hello + self._key.mark(b"process", theirs, hello))
            answer = _read(connection, 1)
            if answer == REFUSED:
                raise InputError(
                    f"process {self._process} was turned away by the coordinator {self._address}: its secret "
                    "is not the job's, or the job has no process of this number; set JAXDET_JOB_SECRET alike "
                    "for all processes (without it, only machines that share the user's home folder agree)"
                )
            if answer != ACCEPTED or not self._key.is_mark(_read(connection, SIZE), b"door", theirs, hello):
                raise self._error(f"met a coordinator {self._address} that does not know the job's secret")
        except BaseException:
            connection.close()
            raise
        connection.settimeout(None)
        return connection


def _listen(address: str) -> socket.socket:
    """A listener on the coordinator's address only; InputError if that is not an address of this machine."""
    host, port = tunnel.split(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # Debian gives a machine's own name to 127.0.1.1 as well, which the others cannot reach.
        family, _, _, _, place = min(found, key=lambda entry: tunnel.is_loopback(str(entry[4][0])))
        listener = socket.create_server(place[:2], family=family, backlog=_AT_ONCE)
    except OSError as error:
        raise InputError(
            f"process 0 cannot listen on the coordinator's address {address} ({error.strerror or error}); "
            "set JAXDET_COORDINATOR to a free port and an address of process 0's own machine"
        ) from error
    if tunnel.is_loopback(str(place[0])) and not (tunnel.is_loopback(host) or host == "localhost"):
        logger.warning(
            "the coordinator %s is %s on its own machine: processes of others cannot reach it; "
            "if there are any, set JAXDET_COORDINATOR to an address that they reach",
            address,
            place[0],
        )
    return listener


def _read(connection: socket.socket, size: int) -> bytes:
    """`size` bytes, all within the time that one message may take."""
    parts, end = b"", time.monotonic() + _PATIENCE_S
    while len(parts) < size:
        connection.settimeout(max(end - time.monotonic(), 0.001))  # 0 would mean not to wait at all
        part = connection.recv(size - len(parts))
        if not part:
            raise ConnectionError("the other side closed the connection")
        parts += part
    return parts
