"""Small files that would crash or stall a reader, and all who walk what it read, are refused at once."""

import itertools
import pickle
import struct
import zipfile

import numpy as np
import pytest

from jaxdet import pickles
from jaxdet.data.datasets import gen1_metadata
from jaxdet.detections import predictions
from jaxdet.errors import InputError
from jaxdet.pickles import bounds, machine, tables
from jaxdet.weights.torch import file, state_dict
from jaxdet.weights.torch import names as torch_names

NAMES = pickles.Names({**tables.CONTAINERS, **tables.ARRAYS}, "plain data")
DEEP = 50_000
DEEP_CALLS = 20_000
TWICE = 100


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def read_torch(path):
    with zipfile.ZipFile(path.with_suffix(".pt"), "w") as archive:
        archive.writestr("x/data.pkl", path.read_bytes())
    return state_dict.find(file.load(path.with_suffix(".pt")))


# Bodies that fail before they get as far would prove nothing.
REASON = (
    r"nested more than 256 deep|expand to more than|contains itself|repeat and are larger|as a key"
    r"|NumPy type tuple|without a name|not made from a list|outside of the file|persistent id"
    r"|unknown byte order|storage of type|required positional|argument"
)
READERS = {"predictions": predictions.read, "metadata": gen1_metadata.read_meta, "torch": read_torch}
DEEP_TUPLE = b")" + b"\x85" * DEEP
DOUBLED_TUPLE = b")" + b"2\x86" * TWICE
PLAIN = {
    "deep tuples": b")" + b"\x85" * 200_000,
    "deep lists": b"]" * DEEP + b"a" * (DEEP - 1),
    "deep lists by marks": b"(" * DEEP + b"l" * DEEP,
    "deep dicts": b"}K\x01" * DEEP + b"N" + b"s" * DEEP,
    "deep frames": b"}" + text("a_0001") + b"}" + text("boxes") + DEEP_TUPLE + b"ss",
    "a deep key": b"}" + DEEP_TUPLE + b"Ns",
    "a deep member": b"\x8f(" + DEEP_TUPLE + b"\x90",
    "a deep frozen member": b"(" + DEEP_TUPLE + b"\x91",
    "deep frozen sets": b"(\x91" + b"q\x000(h\x00\x91" * 1000,
    "a deep call": b"cbuiltins\nset\n" + DEEP_TUPLE + b"R",
    "a deep set": b"cbuiltins\nset\n" + DEEP_TUPLE + b"\x85\x85R",
    "a deep type": b"cnumpy\ndtype\n" + DEEP_TUPLE + b"\x85R",
    "a deep pid": DEEP_TUPLE + b"Q",
    "a deep state": b"cnumpy\ndtype\n" + text("f8") + b"\x85R" + DEEP_TUPLE + b"b",
    "doubled tuples": DOUBLED_TUPLE,
    "doubled lists": b"]" + b"q\x000]h\x00ah\x00a" * TWICE,
    "doubled dicts": b"}" + b"q\x000}K\x01h\x00sK\x02h\x00s" * TWICE,
    "a doubled key": b"}" + DOUBLED_TUPLE + b"Ns",
    "a doubled member": b"(" + DOUBLED_TUPLE + b"\x91",
    "a doubled frame": b"}" + text("a_0001") + b"}" + text("boxes") + DOUBLED_TUPLE + b"ss",
    "ten times ten": b"]" + (b"q\x000](" + b"h\x00" * 10 + b"e") * 9,
    "a text many times": text("x" * 100_000) + b"q\x000](" + b"h\x00" * 10_000 + b"e",
    "a list in itself": b"]q\x00h\x00a",
    "a dict in itself": b"}q\x00K\x01h\x00s",
    "a copy many times": b"](" + b"K\x01" * 1000 + b"eq\x000(" + b"cbuiltins\nset\nh\x00\x85R" * 1000 + b"l",
    "bytes many times": text("x" * 100_000)
    + text("latin1")
    + b"\x86q\x000("
    + b"c_codecs\nencode\nh\x00R" * 9999
    + b"l",
}  # fmt: skip


@pytest.mark.parametrize(
    ("reader", "body"),
    [("predictions", body) for body in PLAIN]
    + [
        (reader, body)
        for reader in ("metadata", "torch")
        for body in ("deep tuples", "doubled lists", "a deep pid")
    ],
)
def test_every_reader_refuses_in_one_line(tmp_path, reader, body):
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x04" + PLAIN[body] + b".")
    with pytest.raises(InputError, match=REASON) as caught:
        READERS[reader](path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400 + len(str(path))


MODULE = b"ctorch.nn\nNet\n)\x81"
OBJECTS = {
    "deep objects": MODULE + (b"}" + text("a") + MODULE) * DEEP_CALLS + b"sb" * DEEP_CALLS,
    "deep calls": b")" + b"q\x000ctorch.nn\nNet\nh\x00R\x85" * DEEP_CALLS,
    "deep ordered dicts": (b"ccollections\nOrderedDict\n)RK\x01" * DEEP_CALLS) + b"N" + b"s" * DEEP_CALLS,
    "doubled modules": MODULE
    + (b"q\x000" + MODULE + b"}" + text("_modules") + b"}K\x01h\x00sK\x02h\x00ssb") * TWICE,
    "doubled items": MODULE + (b"q\x000" + MODULE + b"h\x00ah\x00a") * TWICE,
    "a module in itself": MODULE + b"q\x00}" + text("_modules") + b"}" + text("a") + b"h\x00ssb",
    "metadata in itself": b"ccollections\nOrderedDict\n)Rq\x00}" + text("_metadata") + b"h\x00sb",
    "a deep device": b"ctorch\ndevice\n" + DEEP_TUPLE + b"\x85R",
    "a doubled device": b"ctorch\ndevice\n" + DOUBLED_TUPLE + b"\x85R",
    "a doubled storage": b"(" + text("storage") + DOUBLED_TUPLE + text("0") + text("cpu") + b"K\x01tQ",
}


@pytest.mark.parametrize("body", OBJECTS)
def test_torch_files_refuse_in_one_line(tmp_path, body):
    (tmp_path / "x.pkl").write_bytes(b"\x80\x02" + OBJECTS[body] + b".")
    with pytest.raises(InputError, match=REASON) as caught:
        read_torch(tmp_path / "x.pkl")
    assert str(caught.value).isprintable()


DECLARED = [
    b"X\xff\xff\xff\xff", b"T\xff\xff\xff\x7f", b"B\xff\xff\xff\xff", b"\x8b\xff\xff\xff\x7f",
    b"\x8b\xff\xff\xff\xff",
    *(code + b"\xff" * 8 for code in (b"\x8d", b"\x8e", b"\x96", b"\x95")),
    b"\x8d" + bytes(4) + b"\x01\x00\x00\x00",
    b"\x8c\xff", b"C\xff", b"U\xff", b"\x8a\xff",
]  # fmt: skip


@pytest.mark.parametrize("data", DECLARED)
def test_lengths_beyond_the_file_are_refused(data):
    with pytest.raises(InputError, match="cut short"):
        pickles.read(data + b"abc", NAMES)


def test_depth_is_counted_to_the_last(tmp_path):
    value = []
    for _ in range(bounds.MAX_DEPTH - 1):
        value = [value]
    assert pickles.read(pickle.dumps(value), NAMES)[0] == value
    with pytest.raises(InputError, match="nested more than 256 deep"):
        pickles.read(pickle.dumps([value]), NAMES)
    # One part, met first where it is shallow, then at the end of a chain that is too long only with it.
    half, chain = [], b""
    for _ in range(150):
        half = [half]
    chain = half
    for _ in range(150):
        chain = [chain]
    for both in ([half, chain], [chain, half]):
        with pytest.raises(InputError, match="deep"):
            pickles.read(pickle.dumps(both), NAMES)


def test_sharing_within_bounds_is_read():
    row = [0.0] * 100
    value = {f"a_{i:04d}": {"boxes": row} for i in range(1000)}
    assert pickles.read(pickle.dumps(value), NAMES)[0] == value


def test_objects_are_counted(monkeypatch):
    few = pickles.Names(tables.CONTAINERS, "plain data", max_objects=100)
    assert pickles.read(pickle.dumps([1] * 40), few)[0] == [1] * 40
    with pytest.raises(InputError, match="more than 100 objects"):
        pickles.read(pickle.dumps([1] * 200), few)
    monkeypatch.setattr(machine, "_MAX_HEAVY", 9)
    for one in (b"\x8f", b"(\x91", b"cbuiltins\nset\n)R"):
        pickles.read(b"(" + one * 9 + b"l.", NAMES)
        with pytest.raises(InputError, match="sets and objects"):
            pickles.read(b"(" + one * 10 + b"l.", NAMES)


def test_integers_stay_printable():
    for value in (1 << 2000, -(1 << 2000)):
        for protocol in (0, 2):
            assert pickles.read(pickle.dumps(value, protocol), NAMES)[0] == value
            with pytest.raises(InputError):
                pickles.read(pickle.dumps(value**3, protocol), NAMES)


@pytest.mark.parametrize(
    "key",
    [(1 << 61) - 1, -((1 << 61) - 1), "x" * 5000, b"x" * 5000, tuple(range(17)), ((1,),), frozenset([1])],
)
def test_keys_that_are_slow_to_hash_or_compare_are_refused(key):
    for value in ({key: 1}, {key}, frozenset([key])):
        with pytest.raises(InputError, match="key"):
            pickles.read(pickle.dumps(value), NAMES)


def test_the_content_of_arrays_is_not_counted():
    value = [np.zeros(10_000_000, np.uint8)] * 3
    read, _ = pickles.read(pickle.dumps(value), NAMES)
    assert read[0] is read[2]


def test_names_that_are_long_or_not_printable_are_refused():
    for module, name in itertools.product(["os\x1b[31m", "o" * 5000, "os"], ["mk\rdir", "m" * 5000]):
        for names in (NAMES, torch_names.NAMES):
            with pytest.raises(InputError) as caught:
                pickles.read(text(module) + text(name) + b"\x93.", names)
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 400


def test_files_that_cannot_be_read_are_one_line(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    for name in ("empty", "none", "."):
        with pytest.raises(InputError, match="expected plain data"):
            pickles.load(tmp_path / name, NAMES)
