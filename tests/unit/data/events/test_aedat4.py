"""AEDAT4 files put together byte by byte, whole, cut and damaged; a real one where it is at hand."""

import contextlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from jaxdet.data.events import aedat4
from jaxdet.data.events import open as opening
from jaxdet.data.events.streams import EventChunk, concatenate
from jaxdet.data.synthetic import aedat4_files
from jaxdet.errors import InputError

STREAMS = [(2, "IMUS", 0, 0), (0, "EVTS", 346, 260), (5, "EVTS", 640, 480)]
FIRST = EventChunk(*np.array([[1_605_537_493_718_345, 154, 204, 0], [1_605_537_493_718_348, 345, 259, 1]]).T)
SECOND = EventChunk(*np.array([[1_605_537_494_000_000, 0, 0, 1]]).T)


def compressed(kind):
    if kind == 0:
        return bytes
    if kind == 1:
        return pytest.importorskip("lz4.frame").compress
    return pytest.importorskip("backports.zstd").compress


def write(path, compression=0, tail=b"", table=b""):
    pack = compressed(compression)
    packets = b"".join(
        aedat4_files.packet(number, body)
        for number, body in (
            (0, pack(aedat4_files.event_body(FIRST))),
            (2, pack(b"inertial")),
            (5, pack(aedat4_files.event_body(SECOND))),
            (0, pack(aedat4_files.event_body(SECOND))),
        )
    )
    length = len(aedat4_files.header(STREAMS, compression))
    header = aedat4_files.header(STREAMS, compression, length + len(packets) if table else -1)
    path.write_bytes(header + packets + tail + table)


@pytest.mark.parametrize("compression", [0, 1, 3])
def test_events_of_the_first_event_stream(tmp_path, compression):
    write(tmp_path / "a", compression, table=b"\x01\0\0\0\xff\0\0\0of the index")
    stream = opening.open_events(tmp_path / "a")
    found, expected = concatenate(stream), concatenate([FIRST, SECOND])
    assert (stream.kind, stream.width, stream.height) == ("aedat4", 346, 260)
    for column, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(column, right)
    assert stream.report.counts == {"packets of further event streams": 1}
    assert found.p.dtype == np.int8


@pytest.mark.parametrize(
    "tail", [b"\0", struct.pack("<ii", 0, 100) + b"half a packet", struct.pack("<ii", 0, -1)]
)
def test_a_packet_cut_short_is_counted_and_the_others_are_read(tmp_path, tail):
    write(tmp_path / "a.dat", tail=tail)
    stream = opening.open_events(tmp_path / "a.dat")
    assert len(concatenate(stream).t_us) == 3
    assert stream.report.counts["packets cut short at the end of the file"] == 1


@pytest.mark.parametrize("body", [b"", b"\x10\0\0\0\xff\xff\xff\xff", aedat4_files.event_body(FIRST)[:-20]])
def test_a_broken_packet_is_counted_and_the_others_are_read(tmp_path, body):
    write(
        tmp_path / "a",
        tail=aedat4_files.packet(0, body) + aedat4_files.packet(0, aedat4_files.event_body(SECOND)),
    )
    stream = opening.open_events(tmp_path / "a")
    assert len(concatenate(stream).t_us) == 4
    assert stream.report.counts["packets that cannot be read"] == 1


def test_every_cut_gives_events_or_an_input_error(tmp_path):
    write(tmp_path / "a")
    data = (tmp_path / "a").read_bytes()
    for length in range(len(data)):
        (tmp_path / "b").write_bytes(data[:length])
        with contextlib.suppress(InputError):
            assert len(concatenate(opening.open_events(tmp_path / "b")).t_us) <= 3


def test_files_without_events_and_of_other_versions_are_one_line(tmp_path):
    (tmp_path / "a").write_bytes(aedat4_files.header([(0, "FRME", 346, 260)]))
    with pytest.raises(InputError, match="without a stream of events"):
        opening.open_events(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"#!AER-DAT3.1\r\n#Format: RAW\r\n")
    with pytest.raises(InputError, match=r"AEDAT 3\.1, expected AEDAT 4\.0"):
        opening.open_events(tmp_path / "a")
    (tmp_path / "a").write_bytes(aedat4_files.header(STREAMS, compression=9))
    with pytest.raises(InputError, match="compression 9"):
        opening.open_events(tmp_path / "a")


@pytest.mark.data
@pytest.mark.skipif("JAXDET_REAL_DATA" not in os.environ, reason="JAXDET_REAL_DATA is not set")
def test_real_dvxplorer():
    pytest.importorskip("lz4.frame")
    stream = opening.open_events(Path(os.environ["JAXDET_REAL_DATA"], "events", "dvxplorer_320x240.aedat4"))
    events = concatenate(stream)
    assert (len(events.t_us), stream.width, stream.height, dict(stream.report.counts)) == (
        111_954,
        320,
        240,
        {},
    )
    # The first and the last event as the package aedat 2.3 gives them.
    assert [int(column[0]) for column in events] == [1605537493718345, 154, 204, 0]
    assert [int(column[-1]) for column in events] == [1605537494308262, 88, 237, 1]


@pytest.mark.parametrize("compression", [0, 1, 3])
def test_times_of_frames_are_those_of_the_first_stream_of_frames(tmp_path, compression):
    pack, path = compressed(compression), tmp_path / "a"
    streams = [(0, "EVTS", 346, 260), (3, "FRME", 346, 260), (4, "FRME", 346, 260)]
    times = [1_605_537_493_700_000, 1_605_537_493_740_001]
    bodies = [(3, aedat4_files.frame_body(times[0])), (0, aedat4_files.event_body(FIRST))]
    bodies += [(4, aedat4_files.frame_body(5)), (3, aedat4_files.frame_body(times[1]))]
    packets = b"".join(aedat4_files.packet(number, pack(body)) for number, body in bodies)
    path.write_bytes(aedat4_files.header(streams, compression) + packets + b"cut")
    assert aedat4.frame_times(path).tolist() == times
    path.write_bytes(path.read_bytes()[:-3] + aedat4_files.packet(3, b"not a frame"))
    with pytest.raises(InputError, match="1 damaged frames"):
        aedat4.frame_times(path)
    (tmp_path / "b").write_bytes(aedat4_files.header(STREAMS))
    with pytest.raises(InputError, match="without a stream of frames"):
        aedat4.frame_times(tmp_path / "b")


def test_written_events_and_frames_are_read_again(tmp_path):
    both = concatenate([FIRST, SECOND])
    frames = [1_605_537_493_718_346, 1_605_537_494_000_001]
    aedat4_files.write(tmp_path / "a", both, frames, 346, 260)
    stream = opening.open_events(tmp_path / "a")
    for column, right in zip(concatenate(stream), both, strict=True):
        np.testing.assert_array_equal(column, right)
    assert (stream.width, stream.height, dict(stream.report.counts)) == (346, 260, {})
    assert aedat4.frame_times(tmp_path / "a").tolist() == frames
