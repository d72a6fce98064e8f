"""Cameras that hang mirrored or turned: events against NumPy's own turns of a picture, and boxes back."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdet.data.events import fit
from jaxdet.data.events.mounting import FLIPS, TURNS, Mounting
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError

ALL = [Mounting(flip, turn) for flip, turn in itertools.product(FLIPS, TURNS)]
SIZE = (5, 7)


def _every_pixel(size):
    y, x = (axis.reshape(-1).astype(np.int16) for axis in np.indices(size))
    return EventChunk(np.arange(len(x)), x, y, np.ones(len(x), np.int8))


def _turned(picture, mounting):
    axes = {None: (), "x": 1, "y": 0, "xy": (0, 1)}[mounting.flip]
    return np.rot90(np.flip(picture, axes), -mounting.rotate // 90)


@pytest.mark.parametrize("mounting", ALL, ids=str)
def test_events_go_where_their_pixel_of_the_picture_goes(mounting):
    picture = np.arange(35).reshape(SIZE)
    upright = _turned(picture, mounting)
    events = mounting.events(_every_pixel(SIZE), SIZE)
    assert mounting.size(SIZE) == upright.shape
    np.testing.assert_array_equal(upright[events.y, events.x], np.arange(35))


@pytest.mark.parametrize("mounting", ALL, ids=str)
def test_boxes_hold_the_same_pixels_and_come_back(mounting):
    box = np.array([[1, 2, 4, 5]], float)
    picture = np.zeros(SIZE, bool)
    picture[2:5, 1:4] = True
    x0, y0, x1, y1 = mounting.boxes(box, SIZE)[0].astype(int)
    upright = np.zeros(mounting.size(SIZE), bool)
    upright[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(upright, _turned(picture, mounting))
    np.testing.assert_array_equal(
        mounting.inverse().boxes(mounting.boxes(box, SIZE), mounting.size(SIZE)), box
    )


@given(st.sampled_from(ALL), st.sampled_from(["pad", "bin", "scale", None]), st.integers(0, 2**32 - 1))
def test_a_fit_sees_the_upright_picture_and_gives_boxes_of_the_camera(mounting, name, seed):
    camera, size = (36, 60), (64, 64) if name == "pad" else (24, 32)
    region = (4, 8, 40, 20)
    chosen = fit.choose(name, camera, size, region, mounting)
    boxes = np.random.default_rng(seed).integers(-100, 300, (20, 4)) / 4
    back = chosen.to_camera(chosen.to_model(boxes))
    np.testing.assert_array_equal(back.astype(np.float32), boxes.astype(np.float32))
    events = _every_pixel(camera)
    inside = events.take((events.x >= 4) & (events.x < 44) & (events.y >= 8) & (events.y < 28))
    upright, pixels = chosen.upright(inside), chosen.pixels()
    assert pixels.keep_x[upright.x].all()
    assert pixels.keep_y[upright.y].all()
    assert (pixels.keep_x.sum(), pixels.keep_y.sum()) == mounting.size((20, 40))[::-1]
    centres = np.stack([inside.x, inside.y, inside.x + 1, inside.y + 1], -1)
    on_model = chosen.to_model(centres)
    middle = (on_model[:, :2] + on_model[:, 2:]) / 2
    at = np.stack([pixels.x[upright.x], pixels.y[upright.y]], -1)
    expected = np.maximum(middle - 0.5, 0) if chosen.real else np.floor(middle + 1e-9)
    np.testing.assert_allclose(at, expected, atol=1e-3)


def test_a_turned_camera_of_the_model_s_size_is_not_scaled():
    chosen = fit.choose(None, (304, 240), (240, 304), None, Mounting(rotate=90))
    assert (chosen.name, chosen.scale, chosen.is_identity) == ("none", 1, False)
    assert "turned by 90 degrees clockwise" in chosen.line()
    crop = fit.choose("crop", (100, 100), (20, 30), None, Mounting(rotate=90))
    assert crop.region == (40, 35, 20, 30)


@pytest.mark.parametrize("options", [{"flip": "z"}, {"rotate": 45}])
def test_other_mountings_are_one_line(options):
    with pytest.raises(InputError, match="expected"):
        fit.view(**options)
