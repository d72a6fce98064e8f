"""Watch over the processes of a job: one that falls silent or stands still is named, and the job ends.

JAX's own heartbeat ends a job as well, later and with a native stack trace, and does not see a process that
lives but waits for a disk. Time is counted in ticks of the watching thread: a machine that was suspended as a
whole accuses nobody.
"""

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from jaxdet import errors
from jaxdet.distributed import tunnel
from jaxdet.distributed.store import FOLDER, Store
from jaxdet.distributed.trust import Forged

logger = logging.getLogger(__name__)

COMPUTING = "computing"  # or waiting for the others' part of it
LOST = 75  # exit status: the job may be started again (EX_TEMPFAIL)
_NAME = "watch"  # what a note is filed and marked under, with the number of its process
_LONGEST = 300  # characters of a text that is repeated
_KINDS = {"host": str, "doing": str, "done": int, "failed": str, "status": int, "left": bool, "beat": int}


class Board:
    """The latest note of every process and when it last changed; it has no thread of its own.

    `silent` and `still` are numbers of ticks: without a sign of life of a process, and without any process
    beginning or ending something.
    """

    def __init__(self, own: int, count: int, silent: int, still: int):
        self.own, self.count, self.silent, self.still = own, count, silent, still
        self.notes: dict[int, dict[str, Any]] = {}
        self._tick = self._moved = 0
        self._heard = dict.fromkeys(range(count), 0)
        self._answered = 0

    def hear(self, notes: Mapping[int, dict[str, Any]]) -> None:
        """Take what the coordinator has on all processes."""
        self._answered = self._tick
        for process, note in notes.items():
            before = self.notes.get(process, {})
            if note["beat"] < before.get("beat", 0):  # an old note that somebody repeats
                continue
            if note != before:
                self._heard[process] = self._tick
            if note["done"] != before.get("done"):
                self._moved = self._tick
            self.notes[process] = note

    def verdict(self) -> tuple[str, int] | None:
        """Advance a tick; a line that names the process to blame and the exit status; None if all is well."""
        self._tick += 1
        for process, note in sorted(self.notes.items()):
            if note["failed"] and process != self.own:
                return f"{self._name(process)} failed: {note['failed']}", note["status"]
        if self._tick - self._answered >= self.silent:
            return f"{self._name(0)}, the coordinator, does not answer: it died or the network is cut", LOST
        for process in range(self.count):
            gone = self.notes.get(process, {}).get("left", False)
            if process != self.own and not gone and self._tick - self._heard[process] >= self.silent:
                return f"{self._name(process)} is silent: it died, was stopped or its network is cut", LOST
        if self._tick - self._moved >= self.still and any(note["done"] for note in self.notes.values()):
            return f"no progress: {self._standing()}", LOST
        return None

    def _standing(self) -> str:
        """Text that names those busy with work of their own, else those that have done least."""
        active = {p: n for p, n in self.notes.items() if not n["left"]}
        busy = [p for p, n in active.items() if n["doing"] != COMPUTING]
        least = min(n["done"] for n in active.values())
        named = busy or [p for p, n in active.items() if n["done"] == least]
        return "; ".join(f"{self._name(p)} is {active[p]['doing']}" for p in sorted(named))

    def _name(self, process: int) -> str:
        host = self.notes.get(process, {}).get("host")
        return f"process {process}" + (f" on {host}" if host else "")


def read_note(data: bytes) -> dict[str, Any] | None:
    """A note that another process wrote, its texts fit for a terminal; None if the bytes are not a note."""
    try:
        note = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(note, dict) or {name: type(value) for name, value in note.items()} != _KINDS:
        return None
    return {name: printable(value) if isinstance(value, str) else value for name, value in note.items()}


def printable(text: str) -> str:
    """`text` as `errors.printable` shows it, at most 300 characters."""
    return errors.printable(text[:_LONGEST])[:_LONGEST]


class Watch:
    """A thread that exchanges notes through the coordinator's store and one that judges them."""

    TICK_S = 1.0

    def __init__(self, store: Store, silent_s: float, still_s: float):
        self._store, self._process = store, store.process
        ticks = (max(3, round(s / self.TICK_S)) for s in (silent_s, still_s))
        self._board, self._lock = Board(store.process, store.count, *ticks), threading.Lock()
        self._note: dict[str, Any] = {"host": socket.gethostname(), "doing": COMPUTING, "done": 0}
        self._note |= {"failed": "", "status": 0, "left": False}
        self._beat = 0
        self._met_stranger = False
        self._ended = threading.Event()
        for work in (self._exchange_all, self._judge_all):
            threading.Thread(target=work, name="watch", daemon=True).start()

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """The block does `what` and needs no other process."""
        self._set(doing=what, done=self._note["done"] + 1)
        try:
            yield
        finally:
            self._set(doing=COMPUTING, done=self._note["done"] + 1)

    def leave(self) -> None:
        """This process has done its part."""
        self._set(left=True)
        self._ended.set()
        self._exchange()

    def fail(self, line: str, status: int) -> None:
        """Tell the others that this process ends with `status` by an error of its own; they end alike."""
        self._set(failed=line, status=status)
        with suppress(Exception):  # the coordinator may be the one that failed
            self._exchange()
        if self._process == 0:
            time.sleep(2 * self.TICK_S)  # the others read it here

    def wait_for_verdict(self) -> None:
        """Give the threads time to find the process that caused an error here; they end this one."""
        time.sleep(self.TICK_S * (self._board.silent + 5))

    def _set(self, **changes: Any) -> None:
        with self._lock:
            self._note = {**self._note, **changes}

    def _exchange(self) -> None:
        self._beat += 1
        note = json.dumps({**self._note, "beat": self._beat})
        self._store.set(f"{_NAME}/{self._process}", note.encode())
        found = dict(self._store.client.key_value_dir_get_bytes(f"{FOLDER}/{_NAME}/"))
        notes = {process: self._read(process, found) for process in range(self._store.count)}
        with self._lock:
            self._board.hear({process: note for process, note in notes.items() if note})

    def _read(self, process: int, found: Mapping[str, bytes]) -> dict[str, Any] | None:
        """The note of `process`; None if there is none, or one that it did not write: it is then silent."""
        name = f"{_NAME}/{process}"
        try:
            return read_note(self._store.key.open(name, found.get(f"{FOLDER}/{name}", b"")))
        except Forged as error:
            if f"{FOLDER}/{name}" in found and not self._met_stranger:
                self._met_stranger = True
                logger.warning("%s", error)
            return None

    def _exchange_all(self) -> None:
        while not self._ended.wait(self.TICK_S):
            try:
                self._exchange()
            except Exception:  # the coordinator does not answer: the other thread counts for how long
                continue

    def _judge_all(self) -> None:
        while not self._ended.wait(self.TICK_S):
            with self._lock:
                found = self._board.verdict()
            if found and not self._ended.is_set():
                end(f"error: {found[0]}; ending process {self._process}", found[1])


def end(line: str, status: int, leave: Callable[[int], None] = os._exit) -> None:
    """Say `line` and end at once: an orderly exit would wait for processes that will never come."""
    print(line, file=sys.stderr, flush=True)
    sys.stdout.flush()
    tunnel.remove_folders()
    leave(status)
