"""Recordings by their path are compared with the model's sensor before anything is predicted."""

import numpy as np
import pytest

from jaxdet.data.events import dat
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError
from jaxdet.inference import sources

CHUNK = EventChunk(np.arange(4), np.array([0, 5, 9, 63]), np.array([0, 7, 8, 47]), np.array([0, 1, 0, 1]))


def test_events_of_the_sensor_come_as_they_are(tmp_path):
    dat.write_dat(tmp_path / "a.dat", CHUNK, width=64, height=48)
    (chunk,) = [c for c in sources.events(tmp_path / "a.dat", (48, 64)) if len(c.x)]
    np.testing.assert_array_equal(chunk.x, CHUNK.x)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (None, None)])
def test_another_sensor_is_one_line(tmp_path, width, height):
    dat.write_dat(tmp_path / "a.dat", CHUNK, width=width, height=height)
    with pytest.raises(InputError, match="64x48 pixels, the model sees 32x48"):
        list(sources.events(tmp_path / "a.dat", (48, 32)))
