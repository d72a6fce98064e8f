"""Live events to boxes: a stream for callers of the API, and a queue between a camera and a detector."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from jaxdet.data.events.packets import Packet
from jaxdet.data.events.streams import UNTIMED
from jaxdet.errors import InputError
from jaxdet.inference.events import StepBoxes
from jaxdet.inference.lockstep import Lockstep
from jaxdet.inference.streaming import RESTART_US, StreamDetector
from jaxdet.structs import Boxes, ReadReport

QUEUE_FULL = "events that the queue could not hold"
QUEUE_LATE = "events that waited in the queue for too long"
MAX_PACKETS = 1 << 16  # that wait: one of few events takes about a kilobyte


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


class Streams(Sequence[Stream]):
    """Streams of one detector; made by `Model.streams`.

    Events that are fed to all at once come to boxes in one batch where the streams are in step: each has a
    step that has ended, and the same memories fire in it, as in streams that began together.
    """

    def __init__(self, detectors: Sequence[StreamDetector], compile_now: bool):
        self._lockstep = Lockstep(detectors)
        self._streams = [Stream(detector) for detector in detectors]
        if compile_now:
            self._lockstep.compile()

    def __getitem__(self, index: Any) -> Any:
        return self._streams[index]

    def __len__(self) -> int:
        return len(self._streams)

    def feed(self, packets: Sequence[tuple[Any, Any, Any, Any] | None]) -> list[list[Boxes]]:
        """Boxes by stream, from columns (t_us, x, y, polarity) for each; see `Stream.feed`.

        None: the camera sent nothing; `advance` says that its time went on.
        """
        if len(packets) != len(self):
            raise InputError(f"events of {len(packets)} cameras for {len(self)} streams; give None for none")
        for detector, packet in zip(self._lockstep.lanes, packets):
            if packet is not None:
                detector.feed(*packet)
        return self._boxes()

    def advance(self, now_us: Sequence[int]) -> list[list[Boxes]]:
        """Boxes by stream of the steps that end by the time `now_us` of each camera's clock."""
        for detector, now in zip(self._lockstep.lanes, now_us, strict=True):
            detector.advance(now)
        return self._boxes()

    @property
    def num_batches(self) -> int:
        """Steps that all streams made in one batch."""
        return self._lockstep.num_batches

    def _boxes(self) -> list[list[Boxes]]:
        found: list[list[Boxes]] = [[] for _ in self._streams]
        for number, step in self._lockstep.due():
            found[number].append(step.boxes)
        return found


class Backlog:
    """Packets that wait for a detector, in bounded memory and time.

    At most `max_events` events and `MAX_PACKETS` packets wait, none of which is more than `max_delay_us`
    older than the newest event: of more, the oldest packets are left out and counted in `report`.
    """

    def __init__(self, max_events: int, max_delay_us: int | None = None):
        self._max_events, self._max_delay_us = max_events, max_delay_us
        self._waiting: deque[tuple[Packet, float, int]] = deque()
        self._num_events = self._newest_us = 0
        self.report = ReadReport()

    def put(self, packet: Packet, arrived: float) -> None:
        """Add a packet that arrived at this time, at the expense of the oldest."""
        self.report.add(UNTIMED, packet.num_untimed)
        if not len(packet.events.t_us):
            return
        newest_us = int(packet.events.t_us.max())
        if self._newest_us - newest_us > RESTART_US or not self._waiting:
            self._newest_us = newest_us
        self._newest_us = max(self._newest_us, newest_us)
        self._waiting.append((packet, arrived, newest_us))
        self._num_events += len(packet.events.t_us)
        while len(self._waiting) > 1 and (reason := self._excess()):
            count = len(self._waiting.popleft()[0].events.t_us)
            self._num_events -= count
            self.report.add(reason, count)

    def _excess(self) -> str | None:
        """The reason for which the oldest packet must go."""
        if self._num_events > self._max_events or len(self._waiting) > MAX_PACKETS:
            return QUEUE_FULL
        limit_us = self._max_delay_us
        if limit_us is not None and self._newest_us - self._waiting[0][2] > limit_us:
            return QUEUE_LATE
        return None

    def take(self) -> list[tuple[Packet, float]]:
        """All packets with the times of their arrival, oldest first."""
        taken = [(packet, arrived) for packet, arrived, _ in self._waiting]
        self._waiting.clear()
        self._num_events = 0
        return taken

    def __len__(self) -> int:
        return len(self._waiting)


class Queue:
    """Packets of a source, received by a thread of its own into a `Backlog`."""

    def __init__(self, packets: Iterable[Packet], max_events: int, max_delay_us: int | None = None):
        self._packets, self._backlog = packets, Backlog(max_events, max_delay_us)
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self.report = self._backlog.report
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        try:
            for packet in self._packets:
                arrived = time.perf_counter()
                with self._changed:
                    self._backlog.put(packet, arrived)
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
                self._changed.wait_for(lambda: self._backlog or self._ended)
            if self._ended and not self._backlog:
                if self._error is not None:
                    raise self._error
                return None
            return self._backlog.take()

    def __bool__(self) -> bool:
        """True while packets wait."""
        return bool(self._backlog)


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
        if arrived and not started:
            on_first(arrived[0][0])
            started = True
        detector.feed_packets((packet.events, at) for packet, at in arrived)
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
