"""Events and boxes of a camera on the sensor of a model, and back."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet.data.events import augment, fit, packing
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError
from jaxdet.structs import Boxes, ReadReport

GEN1 = (240, 304)
SIZES = st.tuples(st.integers(8, 800), st.integers(8, 1400))


def _events(seed, size, count=200):
    rng = np.random.default_rng(seed)
    t_us = np.sort(rng.integers(0, 40, count)) * 1000  # many equal times
    x, y = (rng.integers(0, limit, count) for limit in (size[1], size[0]))
    return EventChunk(t_us, x.astype(np.int16), y.astype(np.int16), rng.integers(0, 2, count).astype(np.int8))


def _packed(events, pixels):
    batch = packing.empty(1, len(events.t_us), 8, 1, 0)
    assert packing.put_events(batch, 0, events, 0, pixels, 5000) == 0
    return batch.inputs


@given(SIZES, SIZES, st.sampled_from(["scale", "bin", "crop"]), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_boxes_there_and_back_are_the_same(camera, size, name, seed):
    chosen = fit.choose(name, camera, size)
    rng = np.random.default_rng(seed)
    # Quarters of pixels, on and beside the camera.
    boxes = rng.integers(-400, 4 * 1400, (20, 4)) / 4
    back = chosen.to_camera(chosen.to_model(boxes))
    # Float64 rounds up to a few units of 2^-42 at 4000; what detectors write is float32.
    np.testing.assert_array_equal(back.astype(np.float32), boxes.astype(np.float32))


@given(SIZES, SIZES, st.sampled_from(["scale", "bin", "crop", None]))
@settings(deadline=None)
def test_every_pixel_of_the_region_lies_on_the_sensor_inside_its_box(camera, size, name):
    chosen = fit.choose(name, camera, size)
    pixels, (x, y, width, height) = chosen.pixels(), chosen.region
    for at, kept, start, length, limit in (
        (pixels.x, pixels.keep_x, x, width, size[1]),
        (pixels.y, pixels.keep_y, y, height, size[0]),
    ):
        assert np.flatnonzero(kept).tolist() == list(range(start, start + length))
        at = at[kept]
        assert 0 <= at.min() <= at.max() < limit
        assert (np.diff(at) >= 0).all()
    corners = chosen.to_model(np.array([[x, y, x + width, y + height]]))[0]
    assert corners.min() >= -1e-9
    assert corners[2] <= size[1] + 1e-9
    assert corners[3] <= size[0] + 1e-9
    columns = pixels.x[pixels.keep_x].astype(np.float64)
    centres = chosen.to_model(np.array([[i + 0.5, 0, 0, 0] for i in range(x, x + width)]))[:, 0]
    if chosen.real:
        np.testing.assert_allclose(columns, np.maximum(centres - 0.5, 0), atol=1e-3)
    else:
        # Binned: the pixel that the centre falls in.
        np.testing.assert_allclose(columns, np.floor(centres + 1e-9), atol=0)


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 4]))
@settings(deadline=None, max_examples=10)
def test_a_camera_of_more_pixels_gives_the_model_the_same_input(seed, factor):
    small = _events(seed, GEN1)
    camera = (factor * GEN1[0], factor * GEN1[1])
    inside = np.random.default_rng(seed).integers(0, factor, (2, len(small.t_us)))
    large = small._replace(
        x=(factor * small.x + inside[0]).astype(np.int16), y=(factor * small.y + inside[1]).astype(np.int16)
    )
    chosen = fit.choose(None, camera, GEN1)
    assert (chosen.name, chosen.scale) == ("bin", Fraction(1, factor))
    original = _packed(small, augment.pixel_map(augment.identity(*GEN1)))
    for one, two in zip(original, _packed(large, chosen.pixels()), strict=True):
        np.testing.assert_array_equal(two, one)
    # With real coordinates it is the same up to where in its pixel an event was, and float32.
    real = fit.choose("scale", camera, GEN1).pixels()
    assert np.abs(real.x[large.x] - small.x).max() <= 0.5 - 0.5 / factor + 1e-4
    assert np.abs(real.y[large.y] - small.y).max() <= 0.5 - 0.5 / factor + 1e-4


def test_the_same_size_is_the_identity_to_the_last_bit():
    chosen = fit.choose(None, GEN1, GEN1)
    assert (chosen.name, chosen.is_identity, chosen.real) == ("none", True, False)
    for one, two in zip(chosen.pixels(), augment.pixel_map(augment.identity(*GEN1)), strict=True):
        np.testing.assert_array_equal(one, two)
    boxes = Boxes.none()
    assert chosen.boxes(boxes) is boxes


@pytest.mark.parametrize(
    ("camera", "name", "scale", "shift"),
    [
        ((720, 1280), "bin", Fraction(19, 80), (0, 34)),
        ((480, 640), "bin", Fraction(19, 40), (0, 6)),
        ((260, 346), "bin", Fraction(152, 173), (0, 5)),
        ((320, 320), "bin", Fraction(3, 4), (32, 0)),
        ((180, 240), "pad", Fraction(1), (32, 30)),
    ],
)
def test_without_a_name_the_whole_camera_is_seen_in_its_aspect(camera, name, scale, shift):
    chosen = fit.choose(None, camera, GEN1)
    assert (chosen.name, chosen.scale, chosen.shift) == (name, scale, shift)
    assert chosen.region == (0, 0, camera[1], camera[0])
    assert f"--fit={name}" in chosen.line()


def test_a_crop_is_the_middle_and_what_lies_outside_is_counted():
    chosen = fit.choose("crop", (480, 640), GEN1)
    assert chosen.region == (168, 120, 304, 240)
    events = EventChunk(
        np.arange(4), np.array([167, 168, 471, 700]), np.array([120, 120, 359, 0]), np.ones(4, np.int8)
    )
    report = ReadReport()
    kept = chosen.kept(events, report)
    assert kept.t_us.tolist() == [1, 2]
    assert report.counts == {fit.OUTSIDE_REGION: 1, fit.OUTSIDE_SENSOR: 1}
    assert chosen.pixels().x[kept.x].tolist() == [0, 303]


def test_boxes_are_clipped_to_the_region_and_dropped_if_nothing_is_left():
    chosen = fit.choose(None, (720, 1280), GEN1)
    inside = np.array([[0, 34, 304, 240], [10, 0, 20, 33], [19, 53, 38, 72]], np.float32)
    found = chosen.boxes(Boxes(inside, np.ones(3), np.arange(3), image_size=GEN1))
    assert found.labels.tolist() == [0, 2]
    assert found.xyxy.tolist() == [[0, 0, 1280, 720], [80, 80, 160, 160]]
    assert found.image_size == (720, 1280)


@pytest.mark.parametrize(
    ("name", "camera", "region", "said"),
    [
        ("none", (480, 640), None, "640x480 pixels, the model sees 304x240; give --fit=scale"),
        ("pad", (480, 640), None, "smaller --region"),
        ("crop", (480, 640), (0, 0, 400, 200), "400x200 pixels"),
        ("bin", (480, 640), (600, 0, 100, 100), "inside 640x480"),
        ("squeeze", (480, 640), None, "expected one of none, crop, pad, scale, bin"),
    ],
)
def test_what_does_not_go_together_is_one_line(name, camera, region, said):
    with pytest.raises(InputError, match=said) as error:
        fit.choose(name, camera, GEN1, region)
    assert "\n" not in str(error.value)


def test_regions_are_read_from_text():
    assert fit.parse_region("1,2,30,40") == (1, 2, 30, 40)
    for text in ("1,2,3", "a,b,c,d", "-1,0,3,3"):
        with pytest.raises(InputError, match="expected x,y,width,height"):
            fit.parse_region(text)
