import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from jaxdet.data.events import dat, tables
from jaxdet.data.events.open import open_events
from jaxdet.data.events.streams import EventChunk, concatenate
from jaxdet.errors import InputError
from jaxdet.structs import ReadReport

ROWS = [(1_000_000, 3, 2, 1), (1_000_250, 1, 5, 0), (1_500_000, 0, 0, 1)]


def rows_of(path, chunk=2):
    return list(zip(*(column.tolist() for column in concatenate(open_events(path, chunk)))))


@pytest.mark.parametrize(
    "text",
    [
        "t,x,y,p\n" + "".join("{},{},{},{}\n".format(*row) for row in ROWS),
        "\ufeffx;y;polarity;timestamp_us\n" + "".join(f"{x};{y};{p};{t}\n" for t, x, y, p in ROWS),
        "# a comment\n" + "".join(f"{t / 1e6:.6f} {x} {y} {p}\n" for t, x, y, p in ROWS),  # seconds
        "t_ms x y p\n" + "".join(f"{t / 1e3} {x} {y} {p * 2 - 1}\n" for t, x, y, p in ROWS),
        "ts_ns,x,y,p,id\n" + "".join(f"{t * 1000},{x},{y},{p},9\n" for t, x, y, p in ROWS),
        "".join(f"{x} {y} {p} {t}\n" for t, x, y, p in ROWS),
    ],
)
def test_text_by_names_or_by_values(tmp_path, text):
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert rows_of(tmp_path / "a.txt") == ROWS


def test_numpy_by_names_or_by_values(tmp_path):
    table = np.array(ROWS)
    np.save(tmp_path / "plain.npy", table)
    np.save(tmp_path / "other_order.npy", table[:, [1, 2, 0, 3]])
    fields = np.zeros(3, [("p", "?"), ("ts", "u8"), ("x", "u2"), ("y", "u2")])
    for name, column in zip(("ts", "x", "y", "p"), table.T):
        fields[name] = column
    np.save(tmp_path / "fields.npy", fields)
    np.savez(tmp_path / "named.npz", timestamps=table[:, 0], x=table[:, 1], y=table[:, 2], p=table[:, 3])
    np.savez(tmp_path / "one.npz", events=table)
    for path in sorted(tmp_path.iterdir()):
        assert rows_of(path) == ROWS, path.name


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 1 << 50), st.integers(0, 1279), st.integers(0, 719), st.integers(0, 1)),
        min_size=1,
        max_size=20,
    ),
    chunk=st.integers(1, 7),
)
def test_what_a_table_holds_is_read_in_any_chunks(tmp_path_factory, rows, chunk):
    path = tmp_path_factory.mktemp("table") / "a.csv"
    path.write_text("t,x,y,p\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    assert rows_of(path, chunk) == rows


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("t,x,y,p\n1,2,3,1\n1,2,a,1\n", "line 3"),
        ("t,x,y,p\n1,2,3,1\n1,2,3\n", "line 3"),
        ("t,x,y,p\n1,2,3\n4,5,6\n", "line 2 on: 3 columns, expected at least 4"),
        ("p,y,t,x\n1\n", "line 2 on: 1 columns, expected at least 4"),
        ("a,b,c,d\n1,2,3,4\n", "expected t, x, y and p"),
        ("5 6 7 8\n6 7 8 9\n", "leave a choice"),
        ("t,x,y,p\n1,nan,3,1\n", "x is not a number"),
        ("t,x,y,p\n1,99999,3,1\n", "expected pixels"),
    ],
)
def test_text_that_is_no_table_of_events_is_one_line(tmp_path, text, told):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=told) as error:
        rows_of(tmp_path / "a.csv")
    assert "\n" not in str(error.value)


def test_boxes_and_objects_are_not_events(tmp_path):
    np.save(tmp_path / "boxes.npy", np.zeros(2, dat.BOX_DTYPE))
    np.save(tmp_path / "objects.npy", np.array([{"t": 1}], object), allow_pickle=True)
    np.save(tmp_path / "cube.npy", np.zeros((2, 4, 4)))
    for name, told in (
        ("boxes", "boxes, not events"),
        ("objects", "not a whole NumPy file"),
        ("cube", "shape"),
    ):
        with pytest.raises(InputError, match=told):
            open_events(tmp_path / f"{name}.npy")


def test_an_empty_table_has_no_events(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(0, [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "i1")]))
    assert isinstance(concatenate(open_events(tmp_path / "a.npy")), EventChunk)


def test_every_damaged_byte_of_a_compressed_archive_is_data_or_one_line(tmp_path):
    columns = {name: np.arange(50) % 2 for name in "txyp"}
    np.savez_compressed(tmp_path / "a.npz", **columns)
    raw = (tmp_path / "a.npz").read_bytes()
    refused = 0
    for at in range(0, len(raw), 3):
        (tmp_path / "b.npz").write_bytes(raw[:at] + bytes([raw[at] ^ 0x55]) + raw[at + 1 :])
        try:
            concatenate(open_events(tmp_path / "b.npz"))
        except InputError:
            refused += 1
    assert refused > len(raw) // 6


def test_the_order_of_columns_is_said_for_the_first_file_of_a_folder(tmp_path, caplog):
    for name in ("a.npy", "b.npy", "c.npy"):
        np.save(tmp_path / name, np.array(ROWS))
    np.save(tmp_path / "d.npy", np.array(ROWS)[:, [1, 2, 3, 0]])
    with caplog.at_level("INFO"):
        for name in ("a.npy", "b.npy", "a.npy", "c.npy", "d.npy"):
            assert rows_of(tmp_path / name) == ROWS
    said = [message for message in caplog.messages if "columns without names" in message]
    assert {message.split(": ")[0].rpartition("/")[2] for message in said} == {"a.npy", "d.npy"}


def test_a_program_gives_events_in_the_forms_of_files():
    table = np.array(ROWS)
    fields = np.rec.fromarrays(table.T, names="ts,x,y,p")
    columns = dict(zip(("t_us", "x", "y", "polarity"), table.T))
    milliseconds = {**columns, "t_ms": table[:, 0] / 1000}
    del milliseconds["t_us"]
    for source in (tuple(table.T), list(table.T), table, fields, columns, milliseconds):
        events = tables.in_memory(source, ReadReport())
        assert list(zip(*(column.tolist() for column in events))) == ROWS
    for other in (["a.raw", "b.raw", "c.raw", "d.raw"], table.T[:3].tolist(), None, 3):
        assert tables.in_memory(other, ReadReport()) is None
    for wrong, said in (
        ({"t": [1], "x": [1]}, "fields t, x; expected t, x, y and p"),
        ({"t": [1], "x": [1, 2], "y": [1], "p": [1]}, "expected t, x, y and polarity of one length"),
        (np.zeros((3, 2)), "expected events as rows of t, x, y, p"),
    ):
        with pytest.raises(InputError, match=said):
            tables.in_memory(wrong, ReadReport())


def test_polarities_that_are_none_are_refused_and_fractions_of_pixels_counted(tmp_path):
    (tmp_path / "two.csv").write_text("t,x,y,p\n1,2,3,1\n2,2,3,2\n")
    with pytest.raises(InputError, match=r"two\.csv: p from 1\.0 to 2\.0; expected 0 and 1"):
        rows_of(tmp_path / "two.csv")
    (tmp_path / "between.csv").write_text("t,x,y,p\n1,2.5,3,1\n2,2,3,0\n3,7,0.1,0\n")
    stream = open_events(tmp_path / "between.csv")
    assert concatenate(stream).x.tolist() == [2, 2, 7]
    assert stream.report.notes == {tables.FRACTIONS: 2}


def test_fractions_of_a_column_in_microseconds_are_rounded_and_counted(tmp_path):
    """They are seconds under a wrong name, or nanoseconds that were divided."""
    (tmp_path / "a.csv").write_text("t_us,x,y,p\n1.75,2,3,1\n2,2,3,0\n3.2,7,0,0\n")
    stream = open_events(tmp_path / "a.csv")
    assert concatenate(stream).t_us.tolist() == [2, 2, 3]
    assert stream.report.notes == {tables.BETWEEN: 2}
