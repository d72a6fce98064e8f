"""Evaluation at the steps a protocol uses gives the numbers of the full pass; segments hand on the carry."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet.data.events.streams import EventChunk
from jaxdet.evaluation import protocols
from jaxdet.evaluation import recordings as on_recordings
from jaxdet.inference import events as predictor
from jaxdet.inference import recordings as running
from jaxdet.models.detector import BackboneOutput
from jaxdet.nn import functional
from jaxdet.structs import Detections, EventGeometry

BUCKETS = (1024, 8192)
LABEL = [("t", "<u8"), *((k, "<f4") for k in "xywh"), ("class_id", "u1"), ("confidence", "<f4")]


class CounterCarry(NamedTuple):
    latent: Any  # events seen
    message: Any
    steps: Any


class Backbone(nnx.Module):
    cycle = 3

    def __init__(self, step_us):
        self.geometry = EventGeometry(48, 64, step_us)

    def init_carry(self, batch_size):
        zero = jnp.zeros((batch_size, 1), jnp.int32)
        return CounterCarry(zero, zero, zero)

    def __call__(self, inputs, at_step, reset, carry, train, start_phase=0, empty_step_per_lane=False):
        carry = jax.tree.map(lambda a: jnp.where(reset[:, None], 0, a), carry)
        starts = inputs.step_start - inputs.step_start[:, :1]
        steps = carry.steps + at_step + 1
        events = carry.latent + jnp.take_along_axis(starts, at_step + 1, 1)
        valid = (at_step >= 0) & (steps > 9)
        features = jnp.stack((steps, events), -1) * valid[:, :, None]
        carry = CounterCarry(carry.latent + starts[:, -1:], carry.message, carry.steps + starts.shape[1] - 1)
        return BackboneOutput([features.reshape(-1, 1, 1, 2).astype(jnp.float32)], valid, carry)


class Counter(nnx.Module):
    """A detector whose box tells how many events it has seen, and is large after some steps only."""

    def __init__(self, large_every: int, step_us: int = 5_000):
        self.offset = nnx.Param(jnp.zeros(()))
        self.backbone, self.large_every = Backbone(step_us), large_every

    def init_carry(self, batch_size):
        return self.backbone.init_carry(batch_size)

    def detect(self, features, valid):
        steps, events = features[0][:, 0, 0, 0], features[0][:, 0, 0, 1]
        side = jnp.where((steps * 7) % self.large_every == 0, 30.0, 9.0) + self.offset[...]
        left = events % 16
        boxes = jnp.stack((left, left, left + side, left + side), 1)[:, None, None]
        scores = ((events % 97) + 1)[:, None, None] / 100
        labels = (events % 2).astype(jnp.int32)[:, None, None]
        return Detections(boxes, scores, labels, valid[:, :, None])


class Recording:
    def __init__(self, seed, duration_ms, interval_us):
        rng = np.random.default_rng(seed)
        self.name, self.duration_ms, self.start_us = f"r{seed}", duration_ms, 0
        count = duration_ms * 5
        self._t = np.sort(rng.integers(0, duration_ms * 1000, count))
        self._xyp = [rng.integers(0, limit, count).astype(np.int16) for limit in (64, 48, 2)]
        times = np.arange(505_000 + rng.integers(0, 9_000), duration_ms * 1000, interval_us)
        self.labels = np.zeros(len(times), LABEL)
        self.labels["t"] = times
        for field in "xy":
            self.labels[field] = rng.uniform(0, 16, len(times))
        self.labels["w"], self.labels["h"], self.labels["class_id"] = 30, 30, rng.integers(0, 2, len(times))

    def events(self, start_ms, stop_ms):
        first, last = np.searchsorted(self._t, [start_ms * 1000, stop_ms * 1000])
        return EventChunk(*(column[first:last] for column in (self._t, *self._xyp)))

    def counts(self, window_ms):
        edges = np.arange(0, self.duration_ms + window_ms, window_ms) * 1000
        return np.histogram(self._t, edges)[0]


class Counted(predictor.Predictor):
    """Counts the steps that neck and head look at."""

    num_looks = 0

    def first_hits(self, *arguments):
        for frame in super().first_hits(*arguments):
            self.num_looks += 1
            yield frame


@cache
def _predictor(large_every, num_lanes=1, head_batch=1, step_us=5_000):
    return Counted(*functional.split(Counter(large_every, step_us)), num_lanes, head_batch)


RECORDINGS = [Recording(0, 1900, 250_000), Recording(1, 1203, 37_000), Recording(2, 450, 100_000)]


@pytest.mark.parametrize(
    ("large_every", "lanes", "heads", "step_us"),
    [(5, 2, 3, 5_000), (13, 1, 4, 5_000), (10**6, 1, 4, 5_000), (5, 1, 4, 7_500)],
)
def test_sparse_numbers_are_those_of_the_full_pass(large_every, lanes, heads, step_us):
    # A large box after some steps (for 13, none within reach of some labels), or after none.
    run = _predictor(large_every, lanes, heads, step_us)
    for protocol in map(protocols.of, protocols.NAMES):
        sparse, full = (
            on_recordings.evaluate(run, RECORDINGS, BUCKETS, protocol, full=f) for f in (False, True)
        )
        assert sparse.as_json() == full.as_json()
        np.testing.assert_array_equal(sparse.precision, full.precision)
        np.testing.assert_array_equal(sparse.recall, full.recall)
        # The last output before a label may be one without a large box.
        assert protocol.answer == "last" or (full.num_detections > 0) == (large_every < 10**6)


def test_head_runs_once_per_label_where_the_nearest_step_has_a_box():
    num_labels = len(RECORDINGS[0].labels)
    for run, least, most in ((_predictor(1), 1, 1), (_predictor(10**6, 1, 4), 9, 10)):
        # Less than 25 ms away lie nine or ten steps.
        run.num_looks = 0
        on_recordings.evaluate(run, RECORDINGS[:1], BUCKETS)
        assert num_labels * least <= run.num_looks <= num_labels * most


def test_head_runs_at_the_last_step_before_a_label_of_rvt():
    run = _predictor(1)
    run.num_looks = 0
    sparse = on_recordings.evaluate(run, RECORDINGS[:1], BUCKETS, "rvt")
    assert run.num_looks == sparse.num_images
    assert sparse.num_detections > 0
    full = on_recordings.evaluate(run, RECORDINGS[:1], BUCKETS, "rvt", full=True)
    assert sparse.as_json() == full.as_json()


@pytest.mark.parametrize(("lanes", "step_us"), [(1, 5_000), (2, 5_000), (1, 10_000), (1, 3_333)])
def test_every_step_is_predicted_with_all_events_before_it(lanes, step_us):
    frames = list(running.predict(_predictor(1, lanes, 1, step_us), RECORDINGS, BUCKETS))
    for sequence, recording in enumerate(RECORDINGS):
        own = [f for f in frames if f.sequence == sequence]
        assert [f.boxes.time_us for f in own] == list(
            range(step_us, recording.duration_ms * 1000 + step_us, step_us)
        )
        assert {f.boxes.source for f in own} == {recording.name}
        for frame in own[9:]:
            seen = np.searchsorted(recording._t, frame.boxes.time_us)
            assert frame.boxes.xyxy[0, 0] == seen % 16
        assert all(len(f.boxes) == 0 for f in own[:9])


def test_stream_of_a_file_equals_the_stored_recording():
    recording = RECORDINGS[1]
    rows = np.array_split(np.arange(len(recording._t)), 37)
    chunks = [tuple(column[r] for column in (recording._t, *recording._xyp)) for r in rows]
    run = _predictor(1)
    streamed = list(running.predict_stream(run, chunks, BUCKETS))
    stored = list(running.predict(run, [recording], BUCKETS))
    assert len(streamed) == len(stored)
    for a, b in zip(streamed, stored):
        assert a.boxes.time_us == b.boxes.time_us
        parts = ((a.boxes.xyxy, b.boxes.xyxy), (a.boxes.scores, b.boxes.scores), *zip(a.events, b.events))
        for x, y in parts:
            np.testing.assert_array_equal(x, y)


def test_a_memory_reset_at_every_step_shows_only_the_step_s_own_events():
    run = predictor.Predictor(*functional.split(Counter(1)), reset_memory=True)
    frames = list(running.predict(run, RECORDINGS[2:], BUCKETS, num_steps=run.cycle))
    for frame in frames[9:]:
        assert frame.boxes.xyxy[0, 0] == len(frame.events[0]) % 16
    assert all(len(frame.boxes) == 0 for frame in frames[:9])
