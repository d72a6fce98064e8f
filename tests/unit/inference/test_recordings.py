"""A recording segment by segment, and the same events as a stream, at another step than the published one."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from jaxdet.data.events.streams import EventChunk
from jaxdet.inference import recordings
from jaxdet.inference.events import Predictor
from jaxdet.inference.streaming import StreamDetector
from jaxdet.models import from_config
from jaxdet.nn import functional

CONFIG = Path(__file__).parents[2] / "integration" / "tiny_hmnet.py"
STEP_US, DURATION_MS = 10_000, 250


def _recording():
    rng = np.random.default_rng(0)
    t_us = np.sort(rng.integers(0, 1000 * DURATION_MS, 5_000))
    t_us[-1] = 1000 * DURATION_MS - 1
    columns = (rng.integers(0, limit, len(t_us)) for limit in (304, 240, 2))
    chunk = EventChunk(t_us, *(c.astype(d) for c, d in zip(columns, (np.int16, np.int16, np.int8))))

    def events(start_ms, stop_ms):
        return chunk.take(slice(*np.searchsorted(t_us, [1000 * start_ms, 1000 * stop_ms])))

    def counts(span_ms):
        return np.histogram(t_us, np.arange(0, 1000 * DURATION_MS + 1, 1000 * span_ms))[0]

    stub = SimpleNamespace(name="drive", duration_ms=DURATION_MS, start_us=0, events=events, counts=counts)
    return chunk, stub


def test_a_stream_equals_the_segments_at_steps_of_ten_milliseconds():
    cfg = runpy.run_path(str(CONFIG))["get_config"]()
    cfg.data.step_us = STEP_US
    with cfg.model.unlocked():
        cfg.model.min_score = 0.0  # fresh weights score low
    skeleton, variables = functional.split(from_config.build(cfg, 0))
    chunk, recording = _recording()
    names = ("car", "pedestrian")
    predictor = Predictor(skeleton, variables, class_names=names)
    stored = [step.boxes for step in recordings.predict(predictor, [recording], (8192,))]
    stream = StreamDetector(skeleton, variables, event_sizes=(1024,), class_names=names)
    stream.reset(source="drive")
    streamed = [*stream.feed(*chunk), *stream.advance(1000 * DURATION_MS)]

    assert [boxes.time_us for boxes in stored] == [STEP_US * (k + 1) for k in range(25)]
    assert len(streamed) == 25
    assert all(step.seconds > 0 for step in streamed)
    for one, two in zip(stored, (step.boxes for step in streamed)):
        assert len(one) > 0
        for field in ("source", "time_us", "image_size", "class_names"):
            assert getattr(one, field) == getattr(two, field)
        assert (one.source, one.image_size, one.class_names) == ("drive", (240, 304), names)
        # Two programs of one function: float32 rounding, and boxes of equal score may change places.
        np.testing.assert_allclose(two.scores, one.scores, atol=1e-6)
        np.testing.assert_allclose(np.sort(two.xyxy, 0), np.sort(one.xyxy, 0), atol=1e-2)
