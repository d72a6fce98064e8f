"""Time from a step's events on the host to its boxes, one step after the other, as a live camera gives
them."""

from collections.abc import Sequence

import numpy as np

from jaxdet.errors import InputError
from jaxdet.inference.sources import FittedRecording
from jaxdet.inference.streaming import StreamDetector

# Released speed tests leave out the first 43 steps of a recording.
WARM_UP_STEPS = 43


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


def latency(frames_seconds: Sequence[float], skip: int = WARM_UP_STEPS) -> dict[str, float]:
    """Mean, p50, p99, min and max in ms of the times of steps, in s, after the first `skip`.

    Raises InputError if there are no more than `skip` steps.
    """
    steps = np.asarray(frames_seconds)[skip:] * 1e3
    if not len(steps):
        raise InputError(
            f"{len(frames_seconds)} steps timed, expected more than {skip}, which are left out; "
            "use a longer recording"
        )
    p50, p99 = np.percentile(steps, [50, 99])
    return {"mean": steps.mean(), "p50": p50, "p99": p99, "min": steps.min(), "max": steps.max()}
