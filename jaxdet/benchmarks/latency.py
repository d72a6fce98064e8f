"""Time from a step's events on the host to its boxes, one step after the other, as a live camera gives
them."""

from pathlib import Path

from jaxdet.formats import npy
from jaxdet.inference import sources
from jaxdet.inference.streaming import StreamDetector, latency


def of_recording(detector: StreamDetector, path: Path) -> str:
    """One line: number of steps, and the latency of a step in ms; every program is compiled before the first
    event."""
    detector.compile()
    detector.reset(source=npy.recording_name(path))
    chunks = sources.events(path, detector.geometry.size)
    seconds = [step.seconds or 0.0 for chunk in chunks for step in detector.feed(*chunk)]
    numbers = "  ".join(f"{name} {value:.2f}" for name, value in latency(seconds).items())
    return f"{path.name}: {len(seconds)} steps, ms per step: {numbers}"
