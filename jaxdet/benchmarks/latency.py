"""Time from a step's events on the host to its boxes, one step after the other, as a live camera gives
them."""

from jaxdet.inference.sources import FittedRecording
from jaxdet.inference.streaming import StreamDetector, latency


def of_recording(detector: StreamDetector, source: FittedRecording) -> str:
    """One line: number of steps, and the latency of a step in ms.

    Every program is compiled before the first event. Steps begin where those of `predict` do.
    """
    detector.reset(source.origin_us, source.name, source.fit)
    detector.compile()
    seconds = [step.seconds or 0.0 for chunk in source.chunks() for step in detector.feed(*chunk)]
    numbers = "  ".join(f"{name} {value:.2f}" for name, value in latency(seconds).items())
    left_out = source.report.line()
    return f"{source.path.name}: {len(seconds)} steps, ms per step: {numbers}" + (
        f"; {left_out}" if left_out else ""
    )
