"""Axes that a reshape joins or splits."""

import pytest

from jaxdet.exporting import layout


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((2, 3), (2, 3), [([0], [0]), ([1], [1])]),
        ((2, 3, 4), (6, 4), [([0, 1], [0]), ([2], [1])]),
        ((1, 12), (1, 3, 4), [([0], [0]), ([1], [1, 2])]),
        ((4, 3), (2, 6), [([0, 1], [0, 1])]),
        ((), (1,), [([], [0])]),
    ],
)
def test_a_reshape_falls_into_the_smallest_groups(old, new, expected):
    assert layout.groups(old, new) == expected
