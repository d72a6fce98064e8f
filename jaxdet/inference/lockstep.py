"""Several live streams of one detector, whose steps run as one batch while the streams are in step."""

from collections.abc import Iterator, Sequence

from jaxdet.inference import streaming
from jaxdet.inference.events import StepBoxes
from jaxdet.inference.streaming import StreamDetector


class Lockstep:
    """Streams of one detector and its variables, made alike.

    Where every stream has a step that has ended, and the same memories fire in all of them, these steps are
    one call of a program; else each is a call of its own, so that no stream waits for another. Boxes are
    those of separate streams, up to the rounding of a batch.
    """

    def __init__(self, lanes: Sequence[StreamDetector]):
        self.lanes = tuple(lanes)
        self.num_batches = 0  # steps of all streams in one call

    def compile(self) -> None:
        """Compile all steps, of a stream and of all together, before the first event."""
        kinds = {lane.fit.real for lane in self.lanes}
        for real_events in kinds:
            self.lanes[0].compile(real_events)
            if len(kinds) == 1:
                self.lanes[0].compile(real_events, len(self.lanes))

    def due(self) -> Iterator[tuple[int, StepBoxes]]:
        """Steps that have ended, with the numbers of their streams; those of a stream in order of time."""
        while found := self._step():
            yield from found

    def _step(self) -> list[tuple[int, StepBoxes]]:
        """The next step of every stream that has one."""
        taken = [(number, lane, lane.next_events()) for number, lane in enumerate(self.lanes)]
        ready = [(number, lane, events) for number, lane, events in taken if events is not None]
        kinds = {(lane.phase, lane.fit.real) for _, lane, _ in ready}
        if len(ready) < len(self.lanes) or len(kinds) > 1:
            return [(number, streaming.run([lane], [events])[0]) for number, lane, events in ready]
        self.num_batches += 1
        return list(enumerate(streaming.run(self.lanes, [events for _, _, events in ready])))
