"""Sockets in a private folder, and threads that hand bytes from one socket to another."""

import atexit
import ipaddress
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_LONGEST = 90  # characters of a socket's path; the system ends at 107
_BLOCK = 1 << 18
_folders: list[tuple[int, Path]] = []  # who made it, and where


def private_folder() -> Path:
    """A new folder that only this user may enter, removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="jaxdet-")
    if len(folder) > _LONGEST:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="jaxdet-", dir="/tmp")
    _folders.append((os.getpid(), Path(folder)))
    return Path(folder)


@atexit.register
def remove_folders() -> None:
    """Remove the private folders of this process with the sockets in them."""
    for owner, folder in _folders:
        if owner == os.getpid():  # not in a child that was forked
            with suppress(OSError):
                (folder / "service").unlink(missing_ok=True)
                folder.rmdir()


def listen_local(path: Path) -> socket.socket:
    """A listener on the socket `path`."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def stop(listener: socket.socket) -> None:
    """Close `listener`; a thread that waits at it gets an OSError."""
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def connect_local(path: Path, timeout_s: float = 60) -> socket.socket:
    """A connection to the socket `path`; waits for a listener that is about to come."""
    end = time.monotonic() + timeout_s
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def split(address: str) -> tuple[str, int]:
    """`host:port` or `[host]:port` -> (host, port)."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """True if `host` is an address that only its own machine reaches; False for names."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def spawn(work: Callable[..., None], *arguments: Any) -> None:
    """`work` in a thread that does not keep the process from ending."""
    threading.Thread(target=work, args=arguments, name="tunnel", daemon=True).start()


class Tunnels:
    """Pairs of sockets, each of which gets what the other receives."""

    def __init__(self):
        self._running: set[threading.Thread] = set()

    def join(self, one: socket.socket, other: socket.socket) -> None:
        """Connect two sockets until both have ended; returns then."""
        for end in (one, other):
            if end.family != socket.AF_UNIX:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with one, other:
            threads = [
                threading.Thread(target=_pump, args=pair, name="tunnel", daemon=True)
                for pair in ((one, other), (other, one))
            ]
            self._running.update(threads)
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self._running.difference_update(threads)

    def wait(self, timeout_s: float) -> None:
        """Wait until all have ended, `timeout_s` at most."""
        end = time.monotonic() + timeout_s
        while self._running and time.monotonic() < end:
            time.sleep(0.01)


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Hand on bytes until the source ends: the target is then told so, and may still send what it has."""
    try:
        while block := source.recv(_BLOCK):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
