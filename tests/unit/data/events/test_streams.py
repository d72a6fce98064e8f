"""Columns of events that a program gives."""

import numpy as np
import pytest

from jaxdet.data.events import streams
from jaxdet.errors import InputError

T, X, Y, P = [10, 20, 30], [1, 2, 3], [4, 5, 6], [0, 1, 1]


@pytest.mark.parametrize("kind", [np.int32, np.uint64, np.float32, np.float64, list])
@pytest.mark.parametrize("signs", [P, [-1, 1, 1], [False, True, True], [0.0, 1.0, 1.0]])
def test_columns_of_any_type_are_the_same_events(kind, signs):
    make = list if kind is list else lambda values: np.array(values, kind)
    events = streams.columns(make(T), make(X), make(Y), signs)
    assert [column.tolist() for column in events] == [T, X, Y, P]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (([0.001, 0.002, 0.003], X, Y, P), "t_us holds 0.001; expected whole microseconds"),
        ((T, [1.5, 2, 3], Y, P), "x holds 1.5; expected whole pixels"),
        ((T, X, [1, np.nan, 3], P), "y holds nan; expected whole pixels"),
        (([np.inf, 2, 3], X, Y, P), "t_us holds inf"),
        ((np.array([1, 2, 2**63], np.uint64), X, Y, P), "t_us of type uint64; expected whole numbers below"),
        (([1e30, 2e30, 3e30], X, Y, P), "t_us of type float64; expected whole numbers below"),
        ((["a", "b", "c"], X, Y, P), "t_us of type <U1"),
        ((T, X, Y, [1, 2, 1]), "polarity from 1 to 2; expected 0 and 1, or -1 and 1"),
        ((T, X, Y, [-1, 0, 1]), "polarity from -1 to 1"),
        ((T, X, Y, [np.nan, 0, 1]), "polarity from nan"),
        ((T, X, Y, ["on", "off", "on"]), "polarity of type"),
        ((T, X[:2], Y, P), r"columns of shapes \(3,\), \(2,\)"),
        ((5, 1, 1, 1), "expected t, x, y and polarity of one length"),
    ],
)
def test_what_would_be_other_events_is_refused(columns, said):
    with pytest.raises(InputError, match=said):
        streams.columns(*columns)
