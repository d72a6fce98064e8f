import event_writers
import numpy as np
import pytest

from jaxdet.data.events import dat, evt
from jaxdet.data.events.open import open_events
from jaxdet.data.events.streams import EventChunk, concatenate
from jaxdet.errors import InputError

EVENTS = EventChunk(
    np.array([5, 5, 8000], np.int64),
    np.array([1, 303, 9], np.int16),
    np.array([0, 239, 7], np.int16),
    np.array([0, 1, 1], np.int8),
)


def as_csv(path, events, width, height):
    rows = "\n".join(",".join(map(str, row)) for row in zip(*events))
    path.write_text(f"t,x,y,p\n{rows}\n")


def as_npy(path, events, width, height):
    with open(path, "wb") as file:
        np.save(file, np.stack(events, 1))


WRITERS = {
    "dat": dat.write_dat,
    "evt2": event_writers.write_evt2,
    "evt3": evt.write_evt3,
    "text": as_csv,
    "npy": as_npy,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_the_format_is_found_by_content_whatever_the_name(tmp_path, kind):
    path = tmp_path / "recording.bin"
    WRITERS[kind](path, EVENTS, 304, 240)
    stream = open_events(path)
    assert stream.kind == kind
    assert list(zip(*concatenate(stream))) == list(zip(*EVENTS))


def test_a_stated_sensor_overrules_the_header(tmp_path):
    dat.write_dat(tmp_path / "a.dat", EVENTS, 304, 240)
    stream = open_events(tmp_path / "a.dat", sensor=(720, 1280))
    assert (stream.height, stream.width) == (720, 1280)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"#!AER-DAT2.0\r\n", r"AEDAT 2\.0, expected AEDAT 4\.0"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
        (b"7z\xbc\xaf\x27\x1c", "an archive; extract it first"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "not an HDF5 file, or cut short"),
        (b"", "the file is empty"),
        (bytes(range(256)), "no header and no plausible events"),
    ],
)
def test_another_file_is_one_line_that_says_what_it_is(tmp_path, content, told):
    (tmp_path / "a.raw").write_bytes(content)
    with pytest.raises(InputError, match=told) as error:
        open_events(tmp_path / "a.raw")
    assert "\n" not in str(error.value)
