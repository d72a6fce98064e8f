"""Packets of live events: bytes there and back, over TCP, UDP and a pipe, and EVT3 words in a pipe."""

import io
import socket
import threading

import numpy as np
import pytest
import recordings_data
from hypothesis import given
from hypothesis import strategies as st

from jaxdet.data.events import evt, packets
from jaxdet.data.events.streams import concatenate
from jaxdet.errors import InputError


def _assert_equal(one, two):
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def _events(seed, count=50):
    return recordings_data.chunk(np.random.default_rng(seed), count, 20)


EVENT = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.sampled_from([-1, 0, 1]),
)


@given(st.lists(EVENT, max_size=20), st.sampled_from([None, (720, 1280)]))
def test_bytes_there_and_back(rows, camera):
    columns = [np.array([row[k] for row in rows], np.int64) for k in range(4)]
    packet = packets.decode(packets.encode(columns, camera))
    assert packet.camera == camera
    _assert_equal(packet.events, columns)


@pytest.mark.parametrize(
    ("names", "dtypes"),
    [
        (("t", "x", "y", "p"), ("<i8", "<u2", "<u2", "<i2")),  # Metavision SDK
        (("timestamp", "x", "y", "polarity"), ("<i8", "<i2", "<i2", "i1")),  # dv-processing
        (("timestamp", "x", "y", "polarity"), ("<i8", "<i2", "<i2", "?")),  # aestream
    ],
)
def test_the_arrays_of_the_makers_libraries_are_packets(names, dtypes):
    events = _events(3)
    table = np.zeros(len(events.t_us), list(zip(names, dtypes, strict=True)))
    for name, column in zip(names, events, strict=True):
        table[name] = column
    packet = packets.decode(packets.encode([table[name] for name in names], (24, 32)))
    _assert_equal(packet.events, events)


def test_a_packet_by_hand():
    data = b"JDE1" + bytes([0x40, 1, 0xF0, 0, 1, 0, 0, 0, 0, 0, 0, 0])  # 320 x 240, one event
    data += bytes([7, 0, 0, 0, 0, 0, 0, 0]) + bytes([3, 0]) + bytes([4, 0]) + b"\xff"
    packet = packets.decode(data)
    assert packet.camera == (240, 320)
    assert [column.tolist() for column in packet.events] == [[7], [3], [4], [-1]]


def test_tcp_gives_what_was_sent():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def send():
            connection, _ = server.accept()
            with connection:
                data = b"".join(packets.encode(_events(seed), (24, 32)) for seed in range(3))
                for first in range(0, len(data), 100):  # not at the edges of packets
                    connection.sendall(data[first : first + 100])

        thread = threading.Thread(target=send)
        thread.start()
        got = list(packets.receive(f"tcp://127.0.0.1:{server.getsockname()[1]}"))
        thread.join()
    assert [packet.camera for packet in got] == [(24, 32)] * 3
    for seed, packet in enumerate(got):
        _assert_equal(packet.events, _events(seed))


def test_udp_ends_with_an_empty_packet():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        got, done = [], threading.Event()

        def receive():
            for packet in packets.receive(f"udp://127.0.0.1:{port}"):
                got.append(packet)
            done.set()

        threading.Thread(target=receive, daemon=True).start()
        ended = packets.encode([np.zeros(0)] * 4)
        for _ in range(200):  # until the receiver listens, which it may begin to between two packets
            sender.sendto(packets.encode(_events(1)), ("127.0.0.1", port))
            if got:
                sender.sendto(ended, ("127.0.0.1", port))
            if done.wait(0.02):
                break
    assert done.is_set()
    _assert_equal(got[0].events, _events(1))


def _piped(monkeypatch, data):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    return list(packets.receive("-"))


def test_a_pipe_holds_packets_or_words(monkeypatch, tmp_path):
    (packet,) = _piped(monkeypatch, packets.encode(_events(0), (24, 32)))
    _assert_equal(packet.events, _events(0))
    events = _events(2, 40_000)
    evt.write_evt3(tmp_path / "a.raw", events, 32, 24)
    data = (tmp_path / "a.raw").read_bytes()
    found = _piped(monkeypatch, data)
    assert {packet.camera for packet in found} == {(24, 32)}
    _assert_equal(concatenate(packet.events for packet in found), events)
    bare = _piped(monkeypatch, data[data.index(b"% end\n") + 6 :])
    assert bare[0].camera is None
    _assert_equal(concatenate(packet.events for packet in bare), events)
    assert _piped(monkeypatch, b"") == []
    one = bytes([0, 0x20])  # an event in column 0, before any row or time
    assert [(len(p.events.t_us), p.num_untimed) for p in _piped(monkeypatch, one * 5)] == [(0, 5)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"JDE1" + bytes(12) + b"x", "a packet of 17 bytes, expected 16 for 0 events"),
        (b"GET / HTTP/1.1\r\n", "begin with b'GET '"),
        (b"JDE1" + bytes(4) + b"\xff\xff\xff\xff" + bytes(4), "expected at most 16777216"),
    ],
)
def test_bytes_that_are_no_packet_are_one_line(data, said):
    with pytest.raises(InputError, match=said):
        packets.decode(data)


def test_an_address_is_told_from_a_path():
    assert [packets.is_address(text) for text in ("-", "tcp://a:1", "udp://a:1", "a.raw")] == [True] * 3 + [
        False
    ]
    with pytest.raises(InputError, match="expected tcp://HOST:PORT"):
        next(packets.receive("tcp://nowhere"))
