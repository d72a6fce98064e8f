"""Progress and colour on a terminal; plain lines elsewhere. NO_COLOR switches colour off."""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, TypeVar

T = TypeVar("T")
logger = logging.getLogger(__name__)

STYLES = {"red": "31", "green": "32", "bold": "1"}
_EVERY_S = 10.0  # between two plain lines


def is_terminal(stream: TextIO | None) -> bool:
    """True if a person watches `stream`: a terminal that can move its cursor."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str, stream: TextIO | None) -> str:
    """`text` in a style of `STYLES`, if `stream` is a terminal and NO_COLOR is not set."""
    if not is_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"


def duration(seconds: float) -> str:
    """h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60:d}:{minutes % 60:02d}:{seconds:02d}"


class Progress:
    """A bar on a terminal, else a line every ten seconds: what is done, the rate, and the time left.

    `total` is None where it is not known. `done` is the number that was done before. With `lines=False`
    nothing is written where there is no terminal.
    """

    def __init__(self, title: str, total: int | None, unit: str = "", done: int = 0, lines: bool = True):
        self.title, self.total, self.unit, self.lines = title, total, unit, lines
        self.done, self._first = done, done
        self._began = self._said = time.monotonic()
        self._bar: Any = None
        self._streams: list[tuple[Any, Any]] = []

    def __enter__(self) -> "Progress":
        # Only the process that reports has a bar.
        if is_terminal(sys.stderr) and logging.getLogger().isEnabledFor(logging.INFO):
            handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler)]
            self._streams = [(h, h.stream) for h in handlers if h.stream is sys.stderr]
            self._bar = _bar(self.title, self.total, self.done, self.unit)
            for handler, _ in self._streams:
                handler.setStream(sys.stderr)  # the bar's own, which keeps the bar below the lines
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            for handler, stream in self._streams:
                handler.setStream(stream)

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more as done; `note` stands behind the bar."""
        self.done += count
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done, note=note)
            return
        now = time.monotonic()
        if self.lines and now - self._said >= _EVERY_S:
            self._said = now
            logger.info("%s", self._line(now))

    def _line(self, now: float) -> str:
        rate = (self.done - self._first) / max(now - self._began, 1e-9)
        if self.total is None:
            return f"{self.title}: {self.done} {self.unit}, {rate:.3g}/s"
        left = duration((self.total - self.done) / rate) if rate else "?"
        return f"{self.title}: {self.done} of {self.total} {self.unit}, {rate:.3g}/s, {left} left"


def track(items: Iterable[T], title: str, total: int | None, unit: str = "") -> Iterator[T]:
    """The items, one after another, with the progress of whoever takes them."""
    with Progress(title, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def _bar(title: str, total: int | None, done: int, unit: str) -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    bar = Progress(*columns, console=Console(stderr=True))
    bar.add_task(title, total=total, completed=done, note="")
    bar.start()
    return bar
