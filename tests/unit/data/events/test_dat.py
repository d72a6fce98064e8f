import os
from pathlib import Path

import event_writers
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from jaxdet.data.events import dat, evt, streams
from jaxdet.data.events.open import open_events
from jaxdet.data.events.streams import EventChunk, concatenate, ordered
from jaxdet.errors import InputError


def make_events(t, seed=0, width=304, height=240):
    rng = np.random.default_rng(seed)
    n = len(t)
    return EventChunk(
        np.asarray(t, np.int64),
        rng.integers(0, width, n).astype(np.int16),
        rng.integers(0, height, n).astype(np.int16),
        rng.integers(0, 2, n).astype(np.int8),
    )


def assert_same(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_array_equal(a, e)


WRITERS = {
    "dat": dat.write_dat,
    "evt2": event_writers.write_evt2,
    "evt3": evt.write_evt3,
}
STEPS = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 9000), st.just(5_000_000)), max_size=60)


@pytest.mark.parametrize("kind", WRITERS)
@settings(max_examples=60, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 9), chunk=st.integers(1, 50))
def test_what_is_written_is_read(tmp_path_factory, kind, steps, seed, chunk):
    events = make_events(np.cumsum([0, *steps])[1:] if steps else [], seed)
    path = tmp_path_factory.mktemp(kind) / f"a.{'dat' if kind == 'dat' else 'raw'}"
    WRITERS[kind](path, events, 304, 240)
    stream = open_events(path, chunk)
    assert (stream.kind, stream.width, stream.height) == (kind, 304, 240)
    expected = events
    if kind == "evt3" and len(events.t_us):
        # EVT3 has 24 bits of time: the first event is known modulo 2^24 us only.
        expected = events._replace(t_us=events.t_us - (events.t_us[0] >> 24 << 24))
    for _ in range(2):
        assert_same(concatenate(stream), expected)
        assert not stream.report


@pytest.mark.parametrize("event_type", dat.DAT_TYPES)
@pytest.mark.parametrize("size", [(None, None), (304, 240)])
def test_dat_header_variants(tmp_path, event_type, size):
    events = make_events([0, 37, 8229])
    dat.write_dat(tmp_path / "a.dat", events, *size, event_type=event_type)
    stream = open_events(tmp_path / "a.dat")
    assert (stream.width, stream.height) == size
    assert_same(concatenate(stream), events)


@pytest.mark.parametrize("first_us", [0, 37, 8229])
def test_dat_without_header(tmp_path, first_us):
    # Times of 37 and 8229 us begin with the bytes "%" and "% " of a header line.
    events = make_events([first_us, first_us + 10, first_us + 2613])
    dat.write_dat(tmp_path / "a.dat", events, header=False)
    assert_same(concatenate(open_events(tmp_path / "a.dat")), events)


def test_dat_bits_by_hand(tmp_path):
    record = np.array([7, 300 | 239 << 14 | 1 << 28], "<u4")
    (tmp_path / "a.dat").write_bytes(b"% Width 304\n% Height 240\n\x00\x08" + record.tobytes())
    (event,) = zip(*concatenate(open_events(tmp_path / "a.dat")))
    assert event == (7, 300, 239, 1)


def test_dat_refuses_values_it_cannot_hold(tmp_path):
    with pytest.raises(InputError, match="t from -1"):
        dat.write_dat(tmp_path / "a.dat", make_events([-1]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "empty"),
        (b"% Width 304\n", "ends after its header"),
        (b"% Width 304\n\x0e\x08" + bytes(8), "event type 0x0e"),
        (b"PK\x03\x04" + b"\xff" * 60, "not a whole NumPy file"),
        (b"\x89HDF", "no header and no plausible events"),
        (b"% evt 4.0\n" + bytes(8), "EVT 4.0"),
        (b"% evt 2.0\n" + bytes(8), "2 events and none has a time"),
    ],
)
def test_broken_files_give_one_clear_line(tmp_path, content, line):
    (tmp_path / "a.dat").write_bytes(content)
    with pytest.raises(InputError, match=line) as error:
        concatenate(open_events(tmp_path / "a.dat"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("% evt 3.0\n% plugin_name hal_plugin_gen41_evk3\n", (1280, 720)),
        ("% evt 2.0\n% plugin_name hal_plugin_gen3_fx3\n", (640, 480)),
        ("% evt 3.0\n% plugin_name hal_plugin_imx636_evk4\n", (1280, 720)),
        ("% format EVT3;height=320;width=320\n% end\n", (320, 320)),
        ("% evt 3.0\n% geometry 640x480\n", (640, 480)),
        ("% evt 2.0\n", (None, None)),
    ],
)
def test_sensor_size_of_raw_files(tmp_path, header, size):
    (tmp_path / "a.raw").write_bytes(header.encode())
    stream = open_events(tmp_path / "a.raw")
    assert (stream.width, stream.height) == size


def evt2_words(*words):
    return b"% evt 2.0\n% end\n" + np.array(words, "<u4").tobytes()


def evt3_words(*words):
    return b"% evt 3.0\n% end\n" + np.array(words, "<u2").tobytes()


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_evt2_words_by_hand(tmp_path, chunk):
    late = 0x8 << 28 | 0xFFFFFFF
    (tmp_path / "a.raw").write_bytes(
        evt2_words(
            0x1 << 28 | 5 << 22 | 10 << 11 | 20,  # before the first TIME_HIGH: no time
            late,
            0x1 << 28 | 5 << 22 | 10 << 11 | 20,
            0xA << 28 | 1,  # external trigger
            0x0 << 28 | 63 << 22 | 2047 << 11 | 2047,
            0x8 << 28,  # the counter of 28 bits starts again
            0x1 << 28 | 1 << 22,
        )
    )
    stream = open_events(tmp_path / "a.raw", chunk)
    top = 0xFFFFFFF << 6
    assert list(zip(*concatenate(stream))) == [
        (top + 5, 10, 20, 1),
        (top + 63, 2047, 2047, 0),
        ((1 << 34) + 1, 0, 0, 1),
    ]
    assert stream.report.counts[streams.UNTIMED] == 1


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
def test_evt3_words_by_hand(tmp_path, chunk):
    (tmp_path / "a.raw").write_bytes(
        evt3_words(
            0x0005, 0x2003,  # row and event before the first TIME_HIGH: no time
            0x8FFF, 0x6064, 0x0007, 0x2803,  # t = 0xFFF << 12 | 100, y = 7, x = 3, p = 1
            0x605F, 0x2004,  # time goes back by 5 us: a late event, no wrap
            0x3800 | 100, 0x4801, 0x5081, 0x4002,  # p = 1, column 100: bits 0, 11; 12 + 0, 12 + 7; 20 + 1
            0x8000, 0x2001,  # TIME_HIGH starts again; no TIME_LOW yet
            0x6002, 0xA001, 0xE000, 0x5010,  # trigger and others say nothing; the vector goes on at 132
        )
    )  # fmt: skip
    stream = open_events(tmp_path / "a.raw", chunk)
    base = 0xFFF << 12
    assert list(zip(*concatenate(stream))) == [
        (base + 100, 3, 7, 1),
        (base + 95, 4, 7, 0),
        *((base + 95, x, 7, 1) for x in (100, 111, 112, 119, 121)),
        (1 << 24, 1, 7, 0),
        ((1 << 24) + 2, 136, 7, 1),
    ]
    assert stream.report.counts[streams.UNTIMED] == 1


@pytest.mark.parametrize("kind", evt.DECODERS)
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(0, 80), chunk=st.integers(1, 40))
def test_any_words_decode_alike_in_any_chunks(tmp_path_factory, kind, seed, length, chunk):
    dtype = evt.DECODERS[kind].word
    words = np.random.default_rng(seed).integers(0, 1 << 8 * dtype.itemsize, length, dtype=dtype)
    path = tmp_path_factory.mktemp(kind) / "a.raw"
    version = {"evt2": "2.0", "evt21": "2.1", "evt3": "3.0"}[kind]
    path.write_bytes(f"% evt {version}\n% end\n".encode() + words.tobytes())
    whole, pieces = open_events(path, 1000), open_events(path, chunk)
    try:
        expected = concatenate(whole)
    except InputError:  # none of the events has a time
        with pytest.raises(InputError, match="none has a time"):
            concatenate(pieces)
        return
    assert_same(concatenate(pieces), expected)
    assert pieces.report.counts == whole.report.counts


@settings(max_examples=40, deadline=None)
@given(
    late=st.lists(st.integers(0, 30), max_size=80),
    chunk=st.integers(1, 30),
)
def test_ordered_is_a_stable_sort(late, chunk):
    # Times run on by 10 us and come up to 30 us late.
    events = make_events(np.arange(len(late)) * 10 - np.array(late, int) + 30)
    pieces = (events.take(slice(i, i + chunk)) for i in range(0, len(late), chunk))
    expected = events.take(np.argsort(events.t_us, kind="stable"))
    assert_same(concatenate(ordered(pieces, 30)), expected)


def test_what_comes_too_late_gets_the_time_before_it_and_is_counted():
    raised = []
    chunks = [make_events([100]), make_events([69, 130, 99, 101])]
    times = concatenate(ordered(chunks, 30, raised.append)).t_us
    assert times.tolist() == [100, 100, 101, 130, 130]  # 69 -> 100; 99 -> 130; 101 is 29 us late and sorted
    assert sum(raised) == 2


@pytest.mark.parametrize(
    ("content", "rest"),
    [
        (b"% Width 304\n\x0c\x08" + bytes(13), 5),
        (bytes(13), 5),
        (b"% evt 3.0\n" + evt3_words(0x8000, 0x6000, 0x0001, 0x2001) + b"\x01", 1),
        (b"% evt 2.0\n" + evt2_words(0x8 << 28, 0) + bytes(3), 3),
        (b"% evt 2.1\n" + np.array([0x8 << 60, 1], "<u8").tobytes() + bytes(7), 7),
    ],
)
def test_a_cut_file_gives_its_whole_events_and_counts_the_rest(tmp_path, content, rest):
    (tmp_path / "a.dat").write_bytes(content)
    stream = open_events(tmp_path / "a.dat")
    assert len(concatenate(stream).t_us) == 1
    assert stream.report.counts == {streams.CUT: rest}


def test_dat_version_1_by_hand(tmp_path):
    record = np.array([7, 300 | 239 << 9 | 1 << 17], "<u4")
    (tmp_path / "a.dat").write_bytes(b"% Version 1\n% Width 304\n% Height 240\n\x00\x08" + record.tobytes())
    assert list(zip(*concatenate(open_events(tmp_path / "a.dat")))) == [(7, 300, 239, 1)]


@pytest.mark.parametrize("chunk", [1, 100])
def test_a_clock_of_32_bits_goes_on_after_its_last_microsecond(tmp_path, chunk):
    records = np.array([[(1 << 32) - 1, 0], [5, 0]], "<u4")
    (tmp_path / "a.dat").write_bytes(b"% Version 2\n\x0c\x08" + records.tobytes())
    assert concatenate(open_events(tmp_path / "a.dat", chunk)).t_us.tolist() == [(1 << 32) - 1, (1 << 32) + 5]


@pytest.mark.parametrize("note", ["センチュリー", "é\t", "", "~", "ü" * 600])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "latin-1", "shift-jis"])
def test_header_lines_may_hold_any_text(tmp_path, note, encoding):
    raw = note.encode(encoding, errors="ignore").replace(b"\n", b"").replace(b"\0", b"")
    raw = bytes(byte for byte in raw if byte >= 32)
    words = evt3_words(0x8000, 0x6005, 0x0007, 0x2803)
    (tmp_path / "a.raw").write_bytes(b"% evt 3.0\n% note " + raw + b"\n% geometry 304x240\n" + words)
    stream = open_events(tmp_path / "a.raw")
    assert (stream.width, list(zip(*concatenate(stream)))) == (304, [(5, 3, 7, 1)])


def test_ordered_gives_events_before_the_end():
    chunks = iter(ordered((make_events([t]) for t in range(0, 10**9, 1000)), 2000))
    # An endless source would never end otherwise: what is 2 ms old comes out.
    assert next(chunks).t_us.tolist() == [0]


def test_boxes_are_read_by_name(tmp_path):
    boxes = np.zeros(2, dat.BOX_DTYPE)
    boxes["t"], boxes["x"], boxes["class_id"], boxes["confidence"] = [5, 9], 1.5, 1, 0.5
    dat.write_boxes(tmp_path / "a_bbox.npy", boxes)
    assert np.load(tmp_path / "a_bbox.npy").dtype.names[0] == "ts"
    np.testing.assert_array_equal(dat.read_boxes(tmp_path / "a_bbox.npy"), boxes)

    other = np.zeros(
        2, [("class_confidence", "f8"), ("class_id", "i8"), *((k, "f8") for k in "hwyx"), ("t", "i8")]
    )
    other["t"], other["x"], other["class_id"], other["class_confidence"] = [5, 9], 1.5, 1, 0.5
    np.save(tmp_path / "b_bbox.npy", other)
    np.testing.assert_array_equal(dat.read_boxes(tmp_path / "b_bbox.npy"), boxes)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04"])
def test_a_broken_box_file_is_an_input_error(tmp_path, content):
    (tmp_path / "a_bbox.npy").write_bytes(content)
    with pytest.raises(InputError, match="expected boxes; download or extract it again"):
        dat.read_boxes(tmp_path / "a_bbox.npy")


def test_a_box_file_without_boxes_fields_names_the_field(tmp_path):
    np.save(tmp_path / "a_bbox.npy", np.zeros(3))
    with pytest.raises(InputError, match="no field 't'"):
        dat.read_boxes(tmp_path / "a_bbox.npy")


REAL = pytest.mark.skipif("JAXDET_REAL_DATA" not in os.environ, reason="JAXDET_REAL_DATA is not set")


@pytest.mark.data
@REAL
@pytest.mark.parametrize("chunk", [4097, 1 << 16])
@pytest.mark.parametrize(
    ("file", "kind", "size", "count", "first_us", "last_us", "x", "y"),
    [
        ("gen3_640x480_evt2.raw", "evt2", (640, 480), 539_481, 1_317_888, 1_367_888, (60, 599), (18, 475)),
        (
            "gen41_1280x720_evt3.raw",
            "evt3",
            (1280, 720),
            219_596,
            11_718_656,
            11_727_457,
            (0, 1279),
            (0, 719),
        ),
        ("ncars_car_td.dat", "dat", (None, None), 2_009, 0, 99_952, (0, 77), (0, 41)),
        ("derived/dvxplorer_crop304x240_td.dat", "dat", (304, 240), 111_203, 0, 589_917, (0, 303), (0, 239)),
    ],
)
def test_real_recordings(file, kind, size, count, first_us, last_us, x, y, chunk):
    stream = open_events(Path(os.environ["JAXDET_REAL_DATA"], "events", file), chunk)
    events = concatenate(stream)
    assert (stream.kind, (stream.width, stream.height), len(events.t_us)) == (kind, size, count)
    assert (events.t_us.min(), events.t_us.max()) == (first_us, last_us)
    assert ((events.x.min(), events.x.max()), (events.y.min(), events.y.max())) == (x, y)


@pytest.mark.data
@REAL
def test_real_evt3_against_another_decoder():
    folder = Path(os.environ["JAXDET_REAL_DATA"], "events")
    events = concatenate(open_events(folder / "gen41_1280x720_evt3.raw"))
    other = np.load(folder / "gen41_1280x720_evt3.npy")
    for name in ("x", "y", "p"):
        np.testing.assert_array_equal(getattr(events, name), other[name])
    # That decoder takes each step back of TIME_LOW for a wrap, the first of them after event 20,120.
    np.testing.assert_array_equal(events.t_us[:20_121], other["t"][:20_121])
