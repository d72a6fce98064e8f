"""Values come out of their bytes as they went in, and other bytes give one error and call nothing."""

import json
import math
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxdet.distributed import codec
from jaxdet.errors import InputError


class Pair(NamedTuple):
    left: Any
    right: Any = None


@dataclass
class Count:
    number: int = 0
    lines: list[str] = field(default_factory=list)


class Other(NamedTuple):
    left: Any


KINDS = (Pair, Count)

_arrays = arrays.arrays(
    st.one_of(
        arrays.boolean_dtypes(),
        arrays.integer_dtypes(endianness="<"),
        arrays.unsigned_integer_dtypes(endianness="<"),
        arrays.floating_dtypes(endianness="<", sizes=(32, 64)),
    ),
    arrays.array_shapes(min_dims=0, min_side=0, max_side=3),
)
_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).map(Path),
    _arrays,
    _arrays.filter(lambda a: a.size).map(lambda a: a.reshape(-1)[0]),
)
_values = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(), inner, max_size=4),
        st.builds(Pair, inner, inner),
        st.builds(Count, st.integers(), st.lists(st.text(), max_size=3)),
    ),
    max_leaves=12,
)


def _assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, np.ndarray | np.generic):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for pair in zip(a, b):
            _assert_same(*pair)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            _assert_same(a[key], b[key])
    else:
        assert a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


@given(_values)
@settings(deadline=None, max_examples=60)
def test_values_come_out_as_they_went_in(value):
    _assert_same(codec.decode(codec.encode(value, KINDS), KINDS), value)


def test_an_array_that_came_may_be_changed_and_one_that_is_not_contiguous_goes():
    came = codec.decode(codec.encode(np.arange(12).reshape(3, 4)[:, ::2].T))
    came[0, 0] = 7
    np.testing.assert_array_equal(came, [[7, 4, 8], [2, 6, 10]])


def test_a_path_of_no_text_comes_back():
    path = Path(b"caf\xe9.png".decode("utf-8", "surrogateescape"))
    assert codec.decode(codec.encode(path)) == path


def _deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ({1, 2}, "builtins.set"),
        (Other(1), "Other"),
        (print, "builtin_function_or_method"),
        ({1: 2}, "builtins.dict"),
        (np.array([None]), "array of object"),
        (np.array(["a"]), "array of <U1"),
        (np.zeros(1, [("a", "<i4")]), "array of"),
        (b"raw", "builtins.bytes"),
        (_deep(codec.MAX_DEPTH + 1), "nested more than"),
    ],
)
def test_what_cannot_travel_is_refused_by_name(value, word):
    with pytest.raises(TypeError, match=word):
        codec.encode([value], KINDS)


def _message(text, rest=b""):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return len(text).to_bytes(8, "big") + text + rest


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "cut short"),
        (_message([])[:-1], "cut short"),
        ((2**63).to_bytes(8, "big") + b"[]", "cut short"),
        (_message(["list"], b"x"), "1 bytes too many"),
        (_message(["set", 1]), "no value begins with"),
        (_message([["list"]]), "no value begins with"),
        (_message(["record", "Other", 1]), "'Other' is not expected"),
        (_message(["record", "Pair", 1]), "Pair of 1 fields"),
        (_message(["array", "|O", [1]], b"x" * 8), "an array of"),
        (_message(["array", "<i4", [2]], b"x" * 7), "8 bytes where 7 are left"),
        (_message(["array", "<i4", [2**40, 2**40]]), "are left"),
        (_message(["array", "<i4", [0, 2**62, 2**62]]), "cannot be read"),
        (_message(["array", "<i4", [-1]], b"x" * 4), "shape"),
        (_message(["array", "<i4", [True]], b"x" * 4), "shape"),
        (_message(["array", "<i4", [0] * 1000]), "shape"),
        (_message(["array", "|b1", [1]], b"\x02"), "other bytes than 0 and 1"),
        (_message(b"[" * 100_000), "cannot be read"),
        (_message(b'["list",' * 40 + b"1" + b"]" * 40), "nested more than"),
        (_message(b"9" * 5000), "cannot be read"),
        (_message(b"\xff"), "cannot be read"),
        (_message(b"cos\nsystem\n"), "cannot be read"),
    ],
)
def test_hostile_bytes_give_one_error(data, word):
    with pytest.raises(InputError, match=word) as caught:
        codec.decode(data, KINDS)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


_SAMPLE = codec.encode([Pair(np.arange(5), "a"), Count(1, ["x"]), {"k": (1.5, None)}], KINDS)


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_changed_bytes_give_a_value_or_one_error(data):
    changed = bytearray(_SAMPLE)
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(changed) - 1), st.integers(0, 255)), max_size=4)
    ):
        changed[place] = byte
    cut = data.draw(st.integers(0, len(changed)) | st.just(len(changed)))
    with suppress(InputError):
        codec.decode(bytes(changed[:cut]), KINDS)
