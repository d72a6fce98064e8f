"""Speed of evaluation at the steps that a protocol uses, against the full pass, timed in turn."""

import time
from typing import Any

import numpy as np

from jaxdet.data.events.recordings import LABEL_DTYPE
from jaxdet.data.events.streams import EventChunk
from jaxdet.evaluation import protocols, recordings
from jaxdet.inference.events import Predictor
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.structs import EventGeometry

_LABELS_PER_SECOND = 4  # GEN1's labels come at 1 to 4 Hz
_BOX_PIXELS = 40.0


class RandomRecording:
    """A labelled recording of uniform noise in memory, with the interface that `recordings.evaluate` uses."""

    def __init__(self, geometry: EventGeometry, duration_ms: int, events_per_step: int):
        rng = np.random.default_rng(0)
        size, count = geometry.size, duration_ms * 1000 // geometry.step_us * events_per_step
        t_us = np.sort(rng.integers(0, duration_ms * 1000, count))
        columns = (rng.integers(0, limit, count) for limit in (size[1], size[0], 2))
        self._events = EventChunk(
            t_us, *(c.astype(d) for c, d in zip(columns, (np.int16, np.int16, np.int8)))
        )
        self.name, self.duration_ms = "random", duration_ms
        self.labels = np.zeros(duration_ms * _LABELS_PER_SECOND // 1000, LABEL_DTYPE)
        self.labels["t"] = (np.arange(len(self.labels)) + 1) * (1_000_000 // _LABELS_PER_SECOND)
        self.labels["x"], self.labels["y"] = size[1] / 4, size[0] / 4
        self.labels["w"] = self.labels["h"] = _BOX_PIXELS

    def events(self, start_ms: int, stop_ms: int) -> EventChunk:
        """Events from `start_ms` up to `stop_ms`."""
        first, last = np.searchsorted(self._events.t_us, [start_ms * 1000, stop_ms * 1000])
        return self._events.take(slice(first, last))

    def counts(self, span_ms: int) -> np.ndarray:
        """Number of events in each span of `span_ms` milliseconds, int64 [spans]."""
        edges = np.append(np.arange(0, self.duration_ms, span_ms), self.duration_ms)
        return np.diff(np.searchsorted(self._events.t_us, edges * 1000))


def measure(
    skeleton: Skeleton, variables: Variables, duration_ms: int, events_per_step: int, pairs: int
) -> dict[str, Any]:
    """Median seconds of evaluation, full and by protocol, and their ratios, without compilation.

    The recording has labels at 4 Hz; each way is timed `pairs` times.
    """
    predictor = Predictor(skeleton, variables)
    recording = RandomRecording(predictor.geometry, duration_ms, events_per_step)
    buckets = (1 << 16, 1 << 20)

    def seconds(protocol: protocols.Protocol, full: bool) -> float:
        begin = time.perf_counter()
        recordings.evaluate(predictor, [recording], buckets, protocol._replace(skip_us=0), full=full)
        return time.perf_counter() - begin

    ways = {
        "full": lambda: seconds(protocols.of("hmnet"), True),
        "nearest": lambda: seconds(protocols.of("hmnet"), False),
        "within_50_ms": lambda: seconds(protocols.of("window50"), False),
    }
    taken = [{name: way() for name, way in ways.items()} for _ in range(1 + pairs)][1:]
    median = {name: float(np.median([row[name] for row in taken])) for name in ways}
    ratios = {f"{name}_faster": round(median["full"] / median[name], 2) for name in ways if name != "full"}
    return {**{f"{name}_s": round(value, 2) for name, value in median.items()}, **ratios}


def with_boxes(variables: Variables) -> Variables:
    """Random weights with biases by which the head finds boxes at every step, as a trained head does.

    Without them evaluation would search on from every step, as none would have boxes.
    """
    params = {**variables.params, "head": {**variables.params["head"]}}
    levels = {}
    for stride, (name, level) in zip((4, 8, 16), params["head"]["levels"].items()):
        biases = {
            "obj_pred": np.zeros_like(level["obj_pred"]["bias"]),
            "cls_pred": np.zeros_like(level["cls_pred"]["bias"]),
            "reg_pred": np.array([0, 0, *[np.log(_BOX_PIXELS / stride)] * 2], np.float32),
        }
        levels[name] = {**level, **{key: {**level[key], "bias": bias} for key, bias in biases.items()}}
    params["head"]["levels"] = levels
    return variables._replace(params=params)
