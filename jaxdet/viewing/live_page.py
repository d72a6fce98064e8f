"""The page of `viewing.viewer` while boxes are found, from a server that only this computer reaches."""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from jaxdet.errors import InputError
from jaxdet.formats import names
from jaxdet.structs import Boxes
from jaxdet.viewing import viewer
from jaxdet.viewing.event_pictures import EventPictures
from jaxdet.viewing.viewer import Heading, Moment

logger = logging.getLogger(__name__)

_ADDRESS = "127.0.0.1"
_KEPT = 600  # pictures, on both sides
_AT_ONCE = 50  # pictures of an answer
_FAREWELL_S = 3.0  # a page that was opened gets the last pictures within this


class LivePage:
    """Serves the page at `url` until `close`; only programs of this computer reach it.

    The newest 600 pictures are kept. Raises InputError if the port is taken; port 0 is any free one.
    """

    def __init__(self, title: str, class_names: Sequence[str], score: float, port: int = 0):
        self._heading = Heading(title, tuple(class_names), ("boxes",), score=score)
        self._moments: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._count, self._told, self._ended = 0, -1, False
        self._lock = threading.Lock()
        try:
            self._server = ThreadingHTTPServer((_ADDRESS, port), _handler(self))
        except (OSError, OverflowError) as error:
            raise InputError(
                f"--view_port={port}: {error}; give another port, or 0 for a free one"
            ) from error
        self._server.daemon_threads = True
        self.url = f"http://{_ADDRESS}:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        logger.info("open %s to see boxes as they come", self.url)

    def add(self, moment: Moment) -> None:
        """Show one more picture."""
        packed = viewer.as_json(moment)
        with self._lock:
            self._moments.append(packed)
            self._count += 1

    def close(self) -> None:
        """End the page; an open one keeps its pictures and gets the last ones first."""
        with self._lock:
            self._ended = True
        until = time.monotonic() + _FAREWELL_S
        while 0 <= self._told < self._count - 1 and time.monotonic() < until:
            time.sleep(0.05)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "LivePage":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _after(self, last: int) -> dict[str, Any]:
        """The moments after number `last`, the oldest first, as many as fit an answer."""
        with self._lock:
            oldest = self._count - len(self._moments)
            begin = max(last + 1, oldest)
            chosen = list(self._moments)[begin - oldest : begin - oldest + _AT_ONCE]
            self._told = max(self._told, begin + len(chosen) - 1, 0)
            ended = self._ended and begin + len(chosen) == self._count
        return {"moments": chosen, "last": begin + len(chosen) - 1, "ended": ended}

    def answer(self, path: str) -> tuple[str, str] | None:
        """Type and text of an address of the page, None for another."""
        parts = urlsplit(path)
        if parts.path == "/":
            return "text/html; charset=utf-8", viewer.page(self._heading, [], _KEPT)
        if parts.path == "/moments":
            last = parse_qs(parts.query).get("after", ["-1"])[0]
            if last.removeprefix("-").isdecimal() and len(last) < 16:
                return "application/json", json.dumps(self._after(int(last)))
        return None


def _handler(page: LivePage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Another site's page must not read this one through a name that it points here.
            host = (self.headers.get("Host") or "").rpartition(":")[0]
            answer = page.answer(self.path) if host in (_ADDRESS, "localhost") else None
            if answer is None:
                self.send_error(404)
                return
            kind, text = answer
            data = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            with suppress(OSError):  # the page was closed
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Requests are no news."""

    return Handler


class StillsOnPage:
    """Takes pictures of images with their boxes."""

    def __init__(self, page: LivePage):
        self._page = page

    def add(self, picture: np.ndarray, boxes: Boxes) -> None:
        """Add a picture, uint8 [H, W, 3], blue first."""
        size = picture.shape[0], picture.shape[1]
        self._page.add(_moment(names.file_name(boxes), size, {"picture": picture}, boxes))


class EventsOnPage:
    """Takes steps of a recording; every `stride` of them make a picture. `size` is (height, width)."""

    def __init__(self, page: LivePage, size: tuple[int, int], stride: int):
        self._page, self._size, self._stride = page, size, stride
        self._pictures, self._steps = EventPictures(size), 0

    def add(self, events: Sequence[np.ndarray], boxes: Boxes) -> None:
        """Add a step: x, y and polarity of its events, and its boxes with the time of its end."""
        x, y, polarity = events
        end_us = boxes.time_us or 0
        self._pictures.add(np.full(len(x), end_us), x, y, polarity)
        self._steps += 1
        if self._steps % self._stride == 0:
            layers = self._pictures.take(end_us)
            self._page.add(_moment(f"{end_us / 1e6:.3f} s", self._size, layers, boxes))


def _moment(title: str, size: tuple[int, int], layers: dict[str, np.ndarray], boxes: Boxes) -> Moment:
    return Moment(title, size, layers, None, [boxes], [np.full(len(boxes), -2)])
