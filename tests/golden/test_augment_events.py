"""Augmented events and boxes equal the reference to the last bit, from the same random numbers."""

import random

import numpy as np
import pytest
from golden_data import load

from jaxdet.data.events import augment, packing
from jaxdet.data.events.streams import EventChunk

HEIGHT, WIDTH = 240, 304
CASES = range(int(load("hmnet/augment")["num_cases"]))


class PythonRandom:
    """Python's `random` behind the two methods of a numpy Generator that `draw` uses."""

    def __init__(self, seed, skip=0):
        self._random, self._skip = random.Random(seed), skip

    def integers(self, low, high, endpoint):
        assert endpoint
        if self._skip:
            self._skip -= 1
            return low
        return self._random.randint(low, high)

    def random(self):
        return self._random.uniform(0, 1)


def drawn_view(case):
    """The view of a case; the window's start, drawn first in training, was not drawn there."""
    rng = PythonRandom(int(load("hmnet/augment")[f"case{case}_python_seed"]), skip=1)
    draws = augment.draw(rng, (0, 0), HEIGHT, WIDTH)
    return draws, augment.view(draws, HEIGHT, WIDTH)


@pytest.mark.parametrize("case", CASES)
def test_draws_come_in_the_order_of_the_reference(case):
    golden = load("hmnet/augment")
    want = dict(zip(golden["param_columns"], golden[f"case{case}_params"]))
    draws, view = drawn_view(case)
    assert (view.scale_y, view.scale_x) == (want["scale_y"], want["scale_x"])
    assert (draws.crop_top, draws.crop_left, draws.flip) == (
        want["crop_top"],
        want["crop_left"],
        want["flip"],
    )
    assert view.shift_x == want["pad_left"] - want["crop_left"]
    assert view.shift_y == want["pad_top"] - want["crop_top"]


@pytest.mark.parametrize("case", CASES)
def test_augmented_events_are_equal(case):
    golden = load("hmnet/augment")
    table = augment.pixel_map(drawn_view(case)[1])
    t, x, y, p = golden["in_events"].T
    keep = table.keep_x[x] & table.keep_y[y]
    got = np.stack([t[keep], table.x[x[keep]], table.y[y[keep]], p[keep]], 1).astype(np.float32)
    np.testing.assert_array_equal(got, golden[f"case{case}_events"])


@pytest.mark.parametrize("case", CASES)
def test_augmented_boxes_are_equal(case):
    golden = load("hmnet/augment")
    boxes, keep = augment.map_boxes(golden["in_boxes"], drawn_view(case)[1])
    np.testing.assert_array_equal(boxes, golden[f"case{case}_boxes"])
    np.testing.assert_array_equal(golden["in_labels"][keep], golden[f"case{case}_labels"])
    np.testing.assert_array_equal(golden["in_times"][keep], golden[f"case{case}_times"])


@pytest.mark.parametrize("case", CASES)
def test_packed_events_are_the_augmented_events_sorted_by_step_and_window(case):
    golden = load("hmnet/augment")
    t, x, y, p = golden["in_events"].T
    order = np.argsort(t, kind="stable")
    raw = EventChunk(t[order].astype(np.int64), x[order], y[order], (p[order] > 0).astype(np.int8))
    num_steps, step_us = 4, 5000
    batch = packing.empty(1, 4096, num_steps, 0, 0)
    lost = packing.put_events(batch, 0, raw, 0, augment.pixel_map(drawn_view(case)[1]), step_us)
    out = batch.inputs
    num = out.step_start[0, -1]
    assert lost == 0

    step = np.repeat(np.arange(num_steps), np.diff(out.step_start[0]))
    got = np.column_stack(
        [out.t_us[0, :num] + step * step_us, out.xy[0, :num], 2 * out.polarity[0, :num] - 1]
    )
    want = golden[f"case{case}_events"]
    np.testing.assert_array_equal(sort_rows(got), sort_rows(want))

    cell = np.trunc(out.xy[0, :num, 1] / 4) * 76 + np.trunc(out.xy[0, :num, 0] / 4)
    assert (np.diff(step * 4560 + cell) >= 0).all()


def sort_rows(table):
    return table[np.lexsort(table.T[::-1])]
