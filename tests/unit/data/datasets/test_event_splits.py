"""Recordings dealt out to train, val and test."""

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from jaxdet.data.datasets import event_splits
from jaxdet.errors import InputError


def places(count, folder=""):
    return {f"d{i // 3}_{i}": f"{folder}d{i // 3}_{i}.raw" for i in range(count)}


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 60))
def test_fractions_hold_and_every_split_gets_one(count):
    found = event_splits.assign(places(count), "0.6,0.2,0.2", None, [])
    counts = Counter(found.values())
    assert len(found) == count
    for split, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        assert counts[split] >= 1
        assert abs(counts[split] - share * count) <= 1.5


@settings(max_examples=20, deadline=None)
@given(st.integers(9, 60))
def test_a_session_stays_together(count):
    found = event_splits.assign(places(count), None, r"^(d\d+)_", [])
    for session in {name.split("_")[0] for name in found}:
        assert len({split for name, split in found.items() if name.startswith(f"{session}_")}) == 1
    assert set(found.values()) == {"train", "val", "test"}


def test_splits_depend_on_names_and_not_on_the_order_of_files():
    known = places(20)
    assert event_splits.assign(known, None, None, []) == event_splits.assign(
        dict(reversed(known.items())), None, None, []
    )


def test_folders_are_splits():
    named = {"a": "train/a.raw", "b": "x/val/b.raw", "c": "test/c.raw"}
    assert event_splits.assign(named, None, None, []) == {"a": "train", "b": "val", "c": "test"}
    with pytest.raises(InputError, match="recording d lies in none of the folders"):
        event_splits.assign(named | {"d": "d.raw"}, None, None, [])


def test_a_list_names_recordings_and_patterns(tmp_path):
    path = tmp_path / "splits.txt"
    path.write_text("# mine\ntrain d0_*\nval, d1_3\ntest lost\n")
    problems = []
    found = event_splits.assign(places(5), str(path), None, problems)
    assert found == {"d0_0": "train", "d0_1": "train", "d0_2": "train", "d1_3": "val"}
    assert problems == [f"{path}, line 4: no recording lost", f"d1_4: left out, not in {path}"]


@pytest.mark.parametrize(
    ("rule", "session", "told"),
    [
        ("train d0_*\nval d0_1\n", None, "d0_1 in train and val"),
        ("learn d0_1\n", None, "line 1: expected a split"),
        ("train d0_0\nval d0_1\ntest d0_2\n", r"^d\d+", "session d0: d0_0 in train and d0_1 in val"),
        ("train *\n", "nothing", "finds nothing in d0_0.raw"),
        ("train *\n", "(", "expected a regular expression"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, rule, session, told):
    path = tmp_path / "splits.txt"
    path.write_text(rule)
    with pytest.raises(InputError, match=told.replace("(", r"\(")):
        event_splits.assign(places(3), str(path), session, [])


@pytest.mark.parametrize(
    ("rule", "told"),
    [("0.5,0.5", "three fractions"), ("0.5,0.2,0.1", "add up to 1"), ("lost.txt", "no such file")],
)
def test_fractions_that_are_none(rule, told):
    with pytest.raises(InputError, match=told):
        event_splits.assign(places(9), rule, None, [])


def test_too_few_sessions_are_told():
    with pytest.raises(InputError, match="2 recordings or sessions for the splits train, val, test"):
        event_splits.assign(places(2), None, None, [])
    assert set(event_splits.assign(places(2), "0.5,0,0.5", None, []).values()) == {"train", "test"}
