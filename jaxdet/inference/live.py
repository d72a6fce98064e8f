"""Live events to boxes: a stream for callers of the API, and a queue between a camera and a detector."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxdet.data.events.packets import Packet
from jaxdet.inference.events import StepBoxes
from jaxdet.inference.streaming import StreamDetector
from jaxdet.structs import Boxes, ReadReport

QUEUE_FULL = "events that the queue could not hold"


class Stream:
    """Events as they come to boxes after every step; made by `Model.stream`."""

    def __init__(self, detector: StreamDetector):
        self._detector = detector

    def feed(self, t_us: Any, x: Any, y: Any, polarity: Any) -> list[Boxes]:
        """Boxes of the steps that these events complete, in order, in the pixels of the camera.

        Arrays [N]: `t_us` microseconds, in any order, `x`, `y` pixels, `polarity` 0 and 1, or -1 and 1. The
        first step begins at the time of the first event, rounded down to a step. Events outside the camera,
        or later than their step's boxes, are left out; `report` counts them.
        """
        return [found.boxes for found in self._detector.feed(t_us, x, y, polarity)]

    def advance(self, now_us: int) -> list[Boxes]:
        """Boxes of the steps that end by `now_us`, for a camera that has seen nothing since."""
        return [found.boxes for found in self._detector.advance(now_us)]

    def reset(self) -> None:
        """Begin anew: the next event is the first of another recording."""
        self._detector.reset(None, fit=self._detector.fit, filters=self._detector.filters)

    @property
    def statistics(self) -> dict[str, float]:
        """Steps, events, latency p50_ms and p99_ms from packet to boxes, backlog, real_time, and what was
        left out, by reason."""
        return self._detector.statistics()

    @property
    def report(self) -> ReadReport:
        """Count of the events that were left out since the last reset, by reason."""
        return self._detector.report


class Queue:
    """Packets of a source, received by a thread of its own, in bounded memory.

    At most `max_events` events wait: of more, the oldest packets are left out and counted in `report`.
    """

    def __init__(self, packets: Iterable[Packet], max_events: int):
        self._packets, self._max_events = packets, max_events
        self._waiting: deque[tuple[Packet, float]] = deque()
        self._num_waiting, self._ended = 0, False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self.report = ReadReport()
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        try:
            for packet in self._packets:
                arrived = time.perf_counter()
                with self._changed:
                    self._waiting.append((packet, arrived))
                    self._num_waiting += len(packet.events.t_us)
                    while self._num_waiting > self._max_events and len(self._waiting) > 1:
                        count = len(self._waiting.popleft()[0].events.t_us)
                        self._num_waiting -= count
                        self.report.add(QUEUE_FULL, count)
                    self._changed.notify()
        except BaseException as error:  # `take` raises it in the thread that reads
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify()

    def take(self, wait: bool) -> list[tuple[Packet, float]] | None:
        """All waiting packets with the times of their arrival (`time.perf_counter`), oldest first.

        With `wait`, at least one; None at the end of the source. An error of the source is raised once the
        packets before it are taken.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._waiting or self._ended)
            if self._ended and not self._waiting:
                if self._error is not None:
                    raise self._error
                return None
            taken = list(self._waiting)
            self._waiting.clear()
            self._num_waiting = 0
            return taken

    def __bool__(self) -> bool:
        """True while packets wait."""
        return bool(self._waiting)


def predict(
    detector: StreamDetector,
    queue: Queue,
    on_first: Callable[[Packet], None],
    report: Callable[[dict[str, float]], None],
    every_s: float = 10.0,
) -> Iterator[StepBoxes]:
    """Boxes of the steps that the packets of a queue complete, until its source ends.

    Whatever has arrived is taken in before the next step, so that the detector knows how far it is behind.
    `on_first` gets the first packet before it is used, to fit its camera; `report` gets the statistics every
    `every_s` seconds and at the end.
    """
    reported, started = time.perf_counter(), False
    while (arrived := queue.take(wait=not detector.steps_due)) is not None:
        for packet, at in arrived:
            if not started:
                on_first(packet)
            started = True
            detector.feed(*packet.events, arrived=at)
        for step in detector.due():
            yield step
            if queue:
                break
        if time.perf_counter() - reported > every_s:
            reported = time.perf_counter()
            report(detector.statistics())
    yield from detector.due()
    if detector.end_us is not None and detector.num_waiting:  # the step that the source left open
        yield from detector.advance(detector.end_us + detector.geometry.step_us)
    report(detector.statistics())
