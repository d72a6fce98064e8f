"""Opcodes of all protocols give what Python's own unpickler gives for plain data."""

import mmap
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet import pickles
from jaxdet.errors import InputError
from jaxdet.pickles import tables

NAMES = pickles.Names({**tables.CONTAINERS, **tables.ARRAYS}, "plain data")
WITH_OBJECTS = pickles.Names(
    {**tables.CONTAINERS, ("collections", "OrderedDict"): OrderedDict},
    "plain data",
    is_inert=lambda module, _name: module == "lib",
)

KEYS = st.one_of(
    st.text(max_size=8), st.integers(-(1 << 60), 1 << 60), st.booleans(), st.none(), st.binary(max_size=4),
    st.floats(allow_nan=False), st.tuples(st.text(max_size=3), st.integers(0, 9)),
)  # fmt: skip
LEAVES = st.one_of(
    KEYS, st.integers(-(1 << 600), 1 << 600), st.text(max_size=300), st.binary(max_size=300),
    st.binary(max_size=20).map(bytearray), st.sets(KEYS, max_size=4), st.frozensets(KEYS, max_size=4),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.lists(inner, max_size=5).map(tuple), st.dictionaries(KEYS, inner,
        max_size=5)
    ),
    max_leaves=12,
)  # fmt: skip


def shape(value):
    """Types of all that is in a value, which `==` does not compare."""
    if isinstance(value, dict):
        return dict, [(shape(k), shape(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [shape(v) for v in value]
    return type(value)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.integers(0, 5))
def test_plain_data_of_any_protocol(value, protocol):
    data = pickle.dumps(value, protocol)
    read, position = pickles.read(data, NAMES)
    assert read == value
    assert shape(read) == shape(value)
    assert position == len(data)


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_values_of_any_protocol(protocol):
    value = [
        np.float64(1.5), np.float32(-2), np.int64(7), np.bool_(True), np.arange(6).reshape(2, 3),
        np.asfortranarray(np.ones((2, 3), np.float32)), np.zeros((0, 4)), np.array(3.0), np.arange(3,
        dtype=">u2"),
    ]  # fmt: skip
    read, _ = pickles.read(pickle.dumps(value, protocol), NAMES)
    expected = pickle.loads(pickle.dumps(value, protocol))  # older protocols swap foreign bytes
    for a, b in zip(read, expected, strict=True):
        assert isinstance(a, np.ndarray) == isinstance(b, np.ndarray)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, strict=True)


def test_what_is_shared_stays_shared():
    inner = [1]
    for protocol in range(6):
        read, _ = pickles.read(pickle.dumps([inner, (inner,)], protocol), NAMES)
        assert read[0] is read[1][0]


# Opcodes that today's Python reads and does not write.
OLD = [
    b"I12\n.", b"I01\n.", b"I00\n.", b"L-5L\n.", b"L7\n.", b"F1e3\n.", b"F-inf\n.",
    b"S'a\\'b\\n'\n.", b'S"x"\n.', b"U\x02ab.", b"T\x01\x00\x00\x00a.",
    b"V\\u20ac\n.", b"(lp0\nI1\nag0\n0.", b"(I1\nI2\nt.", b"(I1\nI2\nd.", b"(I1\nI2\nl.",
    b"\x8b\x02\x00\x00\x00\x00\x01.", b"K\x01K\x020.", b"K\x01(K\x02K\x031.", b"K\x052\x86.",
    b"]q\x05h\x05\x86.", b"]r\x00\x00\x01\x00j\x00\x00\x01\x000.",
    b"\x95\x02\x00\x00\x00\x00\x00\x00\x00K\x01.",
    b"\x96\x01\x00\x00\x00\x00\x00\x00\x00a.", b"}K\x01K\x02s.", b"]K\x01a.", b"\x8f(K\x01K\x01\x90.",
    b"(K\x01\x91.",
]  # fmt: skip


@pytest.mark.parametrize("data", OLD)
def test_opcodes_that_others_write(data):
    read, _ = pickles.read(data, NAMES)
    assert read == pickle.loads(data)
    assert type(read) is type(pickle.loads(data))


def test_a_pickle_in_a_memory_map_after_another_reads_alike(tmp_path):
    first = pickle.dumps([1])
    (tmp_path / "p").write_bytes(first + pickle.dumps({"k": (1,)}) + b"tail")
    with open(tmp_path / "p", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert pickles.read(data, NAMES, len(first))[0] == {"k": (1,)}


def test_objects_of_inert_classes_keep_their_state_and_items():
    data = b"clib\nThing\n)\x81}X\x01\x00\x00\x00aK\x01sbK\x05aX\x01\x00\x00\x00kK\x06s."
    value, _ = pickles.read(data, WITH_OBJECTS)
    assert isinstance(value, pickles.Inert)
    assert (str(value.kind), value.args) == ("lib.Thing", ())
    assert value.state == {"a": 1}
    assert value.items == [5, ("k", 6)]
    with_slots, _ = pickles.read(b"clib\nThing\n)\x81(N}X\x01\x00\x00\x00bK\x02stb.", WITH_OBJECTS)
    assert with_slots.state == {"state": None, "b": 2}


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


@pytest.mark.parametrize(
    "target",
    [
        b"c_codecs\nencode\n", b"cbuiltins\nset\n", b"clib\nThing\n", b"]", b"}", b"\x8f", b")", b"K\x01",
        text("a"), b"N",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "state", [b"}" + text("__defaults__") + b"Ns", b"N}" + text("__defaults__") + b"Ns\x86", b"N"]
)
def test_state_reaches_nothing_but_objects_under_construction(target, state):
    before = [(f.__defaults__, dict(f.__dict__)) for f in tables.CONTAINERS.values()]
    with pytest.raises(InputError, match="state for a value that has none"):
        pickles.read(target + state + b"b.", WITH_OBJECTS)
    assert [(f.__defaults__, dict(f.__dict__)) for f in tables.CONTAINERS.values()] == before


def test_attributes_of_an_ordered_dict_hide_no_method():
    made = b"ccollections\nOrderedDict\n)R}"
    value, _ = pickles.read(made + text("_metadata") + b"}sb.", WITH_OBJECTS)
    assert value._metadata == {}
    for name in ("items", "__class__", "update"):
        with pytest.raises(InputError, match="an attribute that"):
            pickles.read(made + text(name) + b"Nsb.", WITH_OBJECTS)


@pytest.mark.parametrize(
    "data",
    [
        b"", b".", b"K", b"K\x01", b"K\x01K\x02.", b"(K\x01.", b"h\x07.", b"t.", b"K\x01\x86.", b"a.",
        b"]a.", b"K\x01K\x02a.",
        b"(K\x01K\x02u.", b"}(K\x01u.", b"](K\x01\x90.", b"}(N]u]u.", b"\x80\x06N.", b"Iabc\n.", b"Fx\n.",
        b"Lx\n.", b"I1",
        b"S'a\n.", b"Sa\n.", b"S'\\xg'\n.", b"V\\ud800\n.", b"V\\u12\n.", b"X\x01\x00\x00\x00\xff.", b"U",
        b"p-1\n.", b"]p-1\n.",
        b"gx\n.", b"K\x01)R.", b"cbuiltins\nset\nK\x01R.", b"cbuiltins\nset\n)}K\x01K\x01s\x92.",
        b"K\x01Q.", b"Pid\n.",
        b"ios\nmkdir\n.", b"(cos\no.", b"\x82\x01.", b"\x97.", b"\x98.", b"\xff.", b"K\x01K\x01\x93.",
        b"c\xff\nx\n.", b"cos",
        b"]}s.", b"}]Ns.", b"}}Ns.", b"\x8f(]\x90.", b"\x8f(cnumpy\ndtype\n" + text("f8") + b"\x85R\x90.",
        b"cnumpy\ndtype\n" + text("O8") + b"\x85R.", b"cnumpy\ndtype\n" + text("f3") + b"\x85R.",
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n" + text("f8") + b"\x85R" + text("a") + b"\x86R.",
        b"cbuiltins\nbytes\nK\x09\x85R.", b"cbuiltins\nbytearray\nK\x09\x85R.",
        b"cbuiltins\nset\n" + text("ab") + b"\x85R.",
        b"c_codecs\nencode\n" + text("ab") + text("rot13") + b"\x86R.",
        b"c_codecs\nencode\n" + text("\u20ac") + text("latin1") + b"\x86R.",
    ],
)  # fmt: skip
def test_damaged_pickles_are_one_line(data):
    with pytest.raises(InputError) as caught:
        pickles.read(data, NAMES)
    assert str(caught.value).isprintable()
    assert "expected plain data" in str(caught.value)
