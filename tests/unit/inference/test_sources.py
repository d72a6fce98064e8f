"""Recordings by their path: their part, their place on the model's sensor, and what does not fit."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import recordings_data

from jaxdet.data.events import dat, filters, fit
from jaxdet.data.events.fit import View
from jaxdet.data.events.streams import EventChunk, concatenate
from jaxdet.errors import InputError
from jaxdet.inference import sources
from jaxdet.inference.sources import FittedArrays, FittedRecording
from jaxdet.structs import EventGeometry, ReadReport

CHUNK = EventChunk(
    np.array([913_000_001, 913_000_002, 913_007_000, 913_020_000]),
    np.array([0, 5, 9, 63]),
    np.array([0, 7, 8, 47]),
    np.array([0, 1, 0, 1]),
)


def _write(folder, width=64, height=48):
    dat.write_dat(folder / "a.dat", CHUNK, width=width, height=height)
    return folder / "a.dat"


def test_events_of_the_sensor_come_as_they_are(tmp_path):
    source = FittedRecording(_write(tmp_path), (48, 64))
    assert source.fit.is_identity
    for one, two in zip(concatenate(source.chunks()), CHUNK, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("start_us", "end_us", "expected"),
    [(913_000_002, None, [5, 9, 63]), (None, 913_007_000, [0, 5]), (913_000_002, 913_020_000, [5, 9])],
)
def test_a_part_is_chosen_in_the_clock_of_the_camera(tmp_path, start_us, end_us, expected):
    source = FittedRecording(_write(tmp_path), (48, 64), View(start_us=start_us, end_us=end_us))
    assert concatenate(source.chunks()).x.tolist() == expected


def test_another_camera_is_fitted_and_what_is_left_out_counted(tmp_path, caplog):
    caplog.set_level("INFO")
    path = _write(tmp_path)
    assert FittedRecording(path, (24, 32)).fit.name == "bin"
    assert "64x48 pixels on the model's 32x24: --fit=bin" in caplog.text
    source = FittedRecording(path, (24, 32), View("crop", (0, 0, 32, 24)))
    assert concatenate(source.chunks()).x.tolist() == [0, 5, 9]
    assert source.report.counts == {fit.OUTSIDE_REGION: 1}


def test_a_file_without_a_size_has_the_model_s_until_an_event_says_otherwise(tmp_path):
    path = _write(tmp_path, None, None)
    assert len(concatenate(FittedRecording(path, (48, 64)).chunks()).x) == 4
    with pytest.raises(InputError, match=r"column 63 or row 47, .*--sensor=WIDTHxHEIGHT"):
        list(FittedRecording(path, (48, 32)).chunks())
    told = FittedRecording(path, (24, 32), View(region=(0, 0, 64, 48)))
    assert (told.fit.camera, told.fit.name) == ((48, 64), "bin")
    told = FittedRecording(path, (24, 32), View(sensor=(60, 80)))
    assert told.fit.camera == (60, 80)


def test_the_sensor_that_is_given_overrules_the_file_s(tmp_path):
    source = FittedRecording(_write(tmp_path), (24, 32), View(sensor=(96, 128)))
    assert (source.fit.camera, source.fit.scale) == ((96, 128), Fraction(1, 4))
    source = FittedRecording(_write(tmp_path), (24, 32), View(sensor=(8, 10)))
    assert concatenate(source.chunks()).x.tolist() == [0, 5]
    assert source.report.counts == {fit.OUTSIDE_SENSOR: 2}


def test_filters_are_those_of_the_camera_and_what_they_leave_out_is_counted(tmp_path, caplog):
    caplog.set_level("INFO")
    count = 40
    hot = EventChunk(1_000 * np.arange(count), *np.tile([[9], [8]], count), np.ones(count, int))
    both = concatenate([hot, CHUNK._replace(t_us=CHUNK.t_us - 912_000_000)])
    dat.write_dat(tmp_path / "hot.dat", both, width=64, height=48)
    view = fit.view(hot_pixels="find", rotate=180)
    for _ in range(2):  # the pixels are looked for once
        source = FittedRecording(tmp_path / "hot.dat", (24, 32), view)
        assert concatenate(source.chunks()).x.tolist() == [0, 5, 63]
        assert source.report.counts == {filters.HOT: count + 1}
    assert "hot pixels found: 9:8" in caplog.text
    named = FittedRecording(tmp_path / "hot.dat", (24, 32), fit.view(hot_pixels=[(9, 8), (63, 47)]))
    assert concatenate(named.chunks()).x.tolist() == [0, 5]
    arrays = FittedArrays(both, named.fit, view, ReadReport())
    assert concatenate(arrays.chunks()).x.tolist() == [0, 5, 63]
    with pytest.raises(InputError, match=r"hot\.dat: hot pixel \(64, 0\)"):
        FittedRecording(tmp_path / "hot.dat", (24, 32), fit.view(hot_pixels=[(64, 0)]))


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (View("none"), "the model sees 32x48"),
        (View(region=(0, 0, 65, 48)), "inside 64x48"),
        (View(start_us=5, end_us=5), "holds nothing"),
    ],
)
def test_a_view_that_does_not_fit_is_one_line_with_the_path(tmp_path, view, said):
    with pytest.raises(InputError, match=rf"a\.dat: .*{said}"):
        FittedRecording(_write(tmp_path), (48, 32), view)


def test_a_prepared_recording_begins_where_it_was_told(tmp_path):
    chunk = recordings_data.chunk(np.random.default_rng(0), 50, 20)
    size = (recordings_data.HEIGHT, recordings_data.WIDTH)
    path = recordings_data.write(
        tmp_path, "test", "r0", chunk, recordings_data.labels([]), 20, start_us=913_000_000
    )
    source = FittedRecording(path, size)
    assert source.whole is not None
    assert source.origin_us == 913_000_000
    np.testing.assert_array_equal(concatenate(source.chunks()).t_us, chunk.t_us + 913_000_000)
    part = FittedRecording(path, size, View(start_us=913_005_000))
    assert (part.whole, part.origin_us) == (None, None)


def test_what_was_read_otherwise_is_counted_once_however_often_it_is_read(tmp_path):
    """Prediction reads a recording twice: once to see how many events its segments have."""
    late = CHUNK._replace(t_us=CHUNK.t_us.copy())
    late.t_us[2] -= 500_000  # beyond what is sorted
    dat.write_dat(tmp_path / "late.dat", late, width=64, height=48)
    source = FittedRecording(tmp_path / "late.dat", (48, 64))
    lines = []
    for _ in range(2):
        list(source.chunks())
        lines.append(source.report.line())
    assert lines[0] == lines[1]
    assert sum(source.report.notes.values()) == 1


def test_events_in_memory_are_put_in_order_and_their_part_must_hold_something():
    mixed = CHUNK.take(np.array([1, 0, 3, 2]))
    fitted = fit.choose("none", (48, 64), (48, 64))
    arrays = FittedArrays(mixed, fitted, View(), ReadReport())
    for one, two in zip(concatenate(arrays.chunks()), CHUNK, strict=True):
        np.testing.assert_array_equal(one, two)
    assert arrays.report.notes == {"events earlier than the one before, sorted": 2}
    with pytest.raises(InputError, match="holds nothing"):
        FittedArrays(CHUNK, fitted, View(start_us=9, end_us=9), ReadReport())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "type NoneType"),
        (b"mine.raw", "type bytes"),
        ([np.zeros(3)], "item of type ndarray"),
        (7, "int"),
    ],
)
def test_what_is_no_path_is_one_line(source, said):
    with pytest.raises(InputError, match=rf"{said}.*expected paths of recordings, or arrays t_us"):
        list(sources.paths(source))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"start_us": 914_000_000}, "no events from 914000000 us; times are of the camera's clock"),
        ({"end_us": 5}, "no events before 5 us;"),
        ({"start_us": 3, "end_us": 5}, "no events from 3 us before 5 us;"),
    ],
)
def test_a_part_without_events_is_refused(tmp_path, part, said):
    predictor = SimpleNamespace(cycle=1, geometry=EventGeometry(48, 64))
    source = FittedRecording(_write(tmp_path), (48, 64), View(**part))
    with pytest.raises(InputError, match=rf"a\.dat: {said}"):
        list(sources.predict(predictor, source, (64,)))
