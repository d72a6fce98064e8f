"""Training windows and the test stream equal the reference: sampled start, events, labelled steps and
boxes."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
from golden_data import load

from jaxdet.data.events import augment as events
from jaxdet.data.events import packing, sequences
from jaxdet.data.events import samples as gen1
from jaxdet.data.events.streams import EventChunk
from jaxdet.structs import Events

HEIGHT, WIDTH, STEP_US, DURATION_MS = 240, 304, 5000, 60_000
GRID_WIDTH = WIDTH // 4


class PythonRandom:
    """Python's `random` behind the two methods of a numpy Generator that `draw` uses."""

    def __init__(self, seed, start_is_drawn):
        self._random, self._skip = random.Random(seed), not start_is_drawn

    def integers(self, low, high, endpoint):
        assert endpoint
        if self._skip:
            self._skip = False
            return low
        return self._random.randint(low, high)

    def random(self):
        return self._random.uniform(0, 1)


def recording(split, name):
    """A prepared recording made of the arrays of prep.npz."""
    prep = load("hmnet/prep")
    t, x, y, p = (prep[f"{split}_evt/{name}_td.npy/{f}"] for f in "txyp")
    t = t.astype(np.int64)
    counts = prep[f"list/{split}/meta.pkl/{name}_td.npy/count"]
    fields = ("t", "x", "y", "w", "h", "class_id", "invalid")
    columns = [prep[f"{split}_lbl/{name}_bbox.npy/{f}"] for f in fields]
    labels = np.empty(len(columns[0]), [(f, c.dtype) for f, c in zip(fields, columns)])
    for field, column in zip(fields, columns):
        labels[field] = column
    intervals = dict(line.split(",") for line in str(prep[f"list/{split}/gt_interval.csv"]).split("\n")[1:])
    ms_start = np.concatenate([[0], np.cumsum(counts)])

    def read(start_ms, stop_ms):
        rows = slice(ms_start[start_ms], ms_start[stop_ms])
        return EventChunk(t[rows], x[rows], y[rows], (p[rows] > 0).astype(np.int8))

    return SimpleNamespace(
        duration_ms=DURATION_MS,
        labels=labels,
        label_interval_us=int(intervals[f"{name}_bbox.npy"]),
        ms_start=ms_start,
        events=read,
    )


def train_sample(index):
    """File name, label millisecond of entry `index` of the sample list."""
    names = ("a_0", "b_0")
    samples = gen1.sample_list([recording("train", n).labels["t"] for n in names])
    return names[samples.recording[index]], int(samples.label_ms[index])


def test_sample_list_is_equal():
    samples = gen1.sample_list([recording("train", n).labels["t"] for n in ("a_0", "b_0")])
    got = np.stack([samples.recording, samples.label_ms], 1)
    np.testing.assert_array_equal(got, load("hmnet/dataset")["train_sampling_timings"])


CASES = [(f"train_plain_{i}", i, 200, False) for i in range(5)]
CASES += [(f"train_aug_{i}", i, 200, True) for i in range(5)]
CASES += [("tbptt_plain", 3, 8100, False)]


@pytest.mark.parametrize(("case", "index", "window_ms", "augment"), CASES)
def test_training_window_is_equal(case, index, window_ms, augment):
    golden = {k.split("/")[1]: v for k, v in load("hmnet/dataset").items() if k.startswith(case + "/")}
    name, label_ms = train_sample(index)
    rec = recording("train", name)
    reach = window_ms - 1
    start_is_drawn = max(0, label_ms - reach) <= min(
        DURATION_MS - window_ms, label_ms - reach + int(reach * 0.25)
    )
    rng = PythonRandom(int(golden["python_seed"]), start_is_drawn)
    starts = gen1.window_starts(label_ms, window_ms, rec.duration_ms)
    draws = events.draw(rng, starts, HEIGHT, WIDTH, augment)
    assert 1000 * draws.start_ms + STEP_US == golden["curr_time_org"][0]

    view = events.view(draws, HEIGHT, WIDTH) if augment else events.identity(HEIGHT, WIDTH)
    check_labels(
        gen1.window_labels(rec.labels, rec.label_interval_us, draws.start_ms, window_ms, STEP_US, view),
        golden,
    )
    raw = rec.events(draws.start_ms, draws.start_ms + window_ms)
    check_events(raw, 1000 * draws.start_ms, view, golden)


def check_labels(labels, golden):
    np.testing.assert_array_equal(labels.steps, golden["annotated_frames"])
    steps = np.repeat(labels.steps, np.diff(labels.row_start))
    got = np.column_stack([steps, labels.boxes, labels.classes, labels.ignore])
    np.testing.assert_array_equal(got, golden["gt"])


def check_events(raw, start_us, view, golden):
    num_steps = int(golden["num_frames"])
    batch = packing.empty(1, len(golden["events"]) + 3, num_steps, 0, 0)
    assert packing.put_events(batch, 0, raw, start_us, events.pixel_map(view), STEP_US) == 0
    out = batch.inputs
    np.testing.assert_array_equal(np.diff(out.step_start[0]), golden["event_count"])
    check_packed(out, golden)


def check_packed(out, golden):
    """Packed events are the reference's, stably sorted by step and window; coordinates equal to the last
    bit."""
    want = golden["events"]
    step = np.repeat(np.arange(len(golden["event_count"])), golden["event_count"])
    cell = np.trunc(want[:, 2] / 4) * GRID_WIDTH + np.trunc(want[:, 1] / 4)
    order = np.lexsort([np.arange(len(want)), cell, step])
    num = out.step_start[0, -1]
    got = np.column_stack(
        [out.t_us[0, :num] + step * float(STEP_US), out.xy[0, :num], 2.0 * out.polarity[0, :num] - 1]
    )
    np.testing.assert_array_equal(got, want[order])


@pytest.mark.parametrize("name", ["d_0", "e_0"])
def test_test_stream_is_equal(name):
    case = f"test_{name}"
    golden = {k.split("/")[1]: v for k, v in load("hmnet/dataset").items() if k.startswith(case + "/")}
    rec = recording("test", name)
    check_labels(gen1.window_labels(rec.labels, rec.label_interval_us, 0, DURATION_MS, STEP_US), golden)

    segment_us = 3_000_000
    batches = list(
        sequences.SequenceBatches(
            [sequences.of_recording(rec, segment_us, STEP_US)],
            segment_us=segment_us,
            step_us=STEP_US,
            size=(HEIGHT, WIDTH),
            event_buckets=(1024, 1 << 20),
        )
    )
    assert [bool(b.reset[0]) for b in batches] == [True] + [False] * 19
    times = np.concatenate([b.source[0, :, 1] for b in batches])
    np.testing.assert_array_equal(times, golden["curr_time_org"])
    counts = np.concatenate([np.diff(b.inputs.step_start[0]) for b in batches])
    np.testing.assert_array_equal(counts, golden["event_count"])
    check_packed(join(batches), golden)


def join(batches):
    """The events of all batches, as one segment."""
    nums = [b.inputs.step_start[0, -1] for b in batches]
    columns = [
        np.concatenate([getattr(b.inputs, field)[0, :n] for b, n in zip(batches, nums)])[None]
        for field in ("xy", "t_us", "polarity")
    ]
    return Events(*columns, np.array([[0, sum(nums)]]))
