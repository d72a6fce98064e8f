"""Affine maps of events and boxes: they agree with each other, with the decode, and over a window."""

import jax.numpy as jnp
import numpy as np
import pytest
import recordings_data as rd
from flax import nnx

from jaxdet.config import block
from jaxdet.data.events import affine, augment, packing
from jaxdet.data.events.streams import EventChunk
from jaxdet.data.events.windows import Windows
from jaxdet.errors import InputError
from jaxdet.models.heads import DecoupledHead

HEIGHT, WIDTH = 96, 128
RANGES = affine.Ranges(rotation=20, translation=0.1, scale=1.3, shear=10)


def a_warp(seed):
    warp = affine.draw(np.random.default_rng(seed), RANGES, HEIGHT, WIDTH)
    assert warp is not None
    return warp


def filled(box):
    """An event at every pixel of a rectangle, its border included."""
    x, y = np.meshgrid(np.arange(box[0], box[2] + 1), np.arange(box[1], box[3] + 1))
    x, y = x.ravel().astype(np.int16), y.ravel().astype(np.int16)
    return EventChunk(np.zeros(len(x), np.int64), x, y, np.ones(len(x), np.int8))


def packed(chunk, pixels):
    batch = packing.empty(1, 4096, 1, 0, 0)
    assert packing.put_events(batch, 0, chunk, 0, pixels, 5000) == 0
    return batch.inputs.xy[0, : batch.inputs.step_start[0, -1]]


@pytest.mark.parametrize("seed", range(5))
def test_the_mapped_box_is_the_hull_of_the_mapped_events_and_decode_keeps_it(seed):
    warp, box = a_warp(seed), np.array([50, 40, 78, 58])
    mapped, keep = affine.map_boxes(warp, box[None])
    assert keep.all()
    xy = packed(filled(box), affine.pixel_map(warp, augment.identity(HEIGHT, WIDTH)))
    # float32 coordinates of up to 128 pixels
    np.testing.assert_allclose([*xy.min(0), *xy.max(0)], mapped[0], atol=2e-5)

    head = DecoupledHead([4], 2, 4, [8], stem=False, rngs=nnx.Rngs(0))
    sizes = [(HEIGHT // 8, WIDTH // 8)]
    num = sizes[0][0] * sizes[0][1]
    rows = jnp.broadcast_to(jnp.asarray([box, mapped[0]], jnp.float32)[:, None], (2, num, 4))
    plain, moved = np.asarray(head.decode(head.encode(rows, sizes), sizes), np.float64)
    again, keep = affine.map_boxes(warp, plain)
    assert keep.all()
    np.testing.assert_allclose(again, moved, atol=1e-3)  # exp and log in float32


def test_a_quarter_turn_by_hand():
    """x' = 63.5 - (y - 47.5), y' = 47.5 + (x - 63.5); the box that is left half outside is clipped."""
    warp = affine.AffineMap(np.array([[0.0, -1.0, 111.0], [1.0, 0.0, -16.0]]), HEIGHT, WIDTH)
    boxes = np.array([[20, 10, 40, 30], [0, 10, 30, 30], [0, 10, 40, 30], [100, 0, 120, 8]])
    mapped, keep = affine.map_boxes(warp, boxes)
    np.testing.assert_array_equal(keep, [True, False, True, True])  # centre of the second: y' = -1
    np.testing.assert_array_equal(mapped, [[81, 4, 101, 24], [81, 0, 101, 24], [103, 84, 111, 96]])


@pytest.mark.parametrize("flip", [False, True])
def test_the_map_that_changes_nothing_leaves_the_view(flip):
    view = augment.view(augment.Draws(0, 8, 5, 9, flip), HEIGHT, WIDTH)
    warp = affine.AffineMap(np.eye(3)[:2], HEIGHT, WIDTH)
    chunk = filled([0, 0, 50, 40])
    got, want = (packed(chunk, m) for m in (affine.pixel_map(warp, view), augment.pixel_map(view)))
    np.testing.assert_allclose(got, want, atol=1e-5)  # float64 against the released float32


def test_no_range_draws_no_map_and_a_wrong_one_is_named():
    assert affine.draw(np.random.default_rng(0), affine.Ranges(), HEIGHT, WIDTH) is None
    with pytest.raises(InputError, match=r"data.affine.scale is 0.5, expected 1 to 10"):
        affine.Ranges.of(block(rotation=0, translation=0, scale=0.5, shear=0))


def test_one_map_holds_over_a_window_and_boxes_that_leave_are_counted(tmp_path):
    rd.make_set(tmp_path)
    turned = {"affine": block(rotation=180.0, translation=0.3, scale=1.0, shear=0.0)}
    long = {"window_ms": 400, "augment": False, "event_buckets": (1 << 14,)}
    whole = Windows(rd.config(tmp_path, **long, **turned, segment_ms=400, max_slots=8), "train")
    cut = Windows(rd.config(tmp_path, **long, **turned, segment_ms=100), "train")
    lost = 0
    for group in range(3):
        one, dropped = whole.batch(group)
        parts = [cut.batch(4 * group + s) for s in range(4)]
        assert sum(p[1].boxes for p in parts) == dropped.boxes
        lost += dropped.boxes
        for lane in range(4):
            got = [b.inputs.xy[lane, : b.inputs.step_start[lane, -1]] for b, _ in parts]
            num = one.inputs.step_start[lane, -1]
            np.testing.assert_array_equal(np.concatenate(got), one.inputs.xy[lane, :num])
    assert lost > 0
