"""Items are made ahead of their use, in order, and errors come out where they happened."""

import threading

import pytest

from jaxdet.data.pipeline import prefetched


def test_prefetched_items_come_in_order_and_are_made_no_further_ahead_than_asked():
    made = []

    def numbers():
        for k in range(50):
            made.append(k)
            yield k

    items = prefetched(numbers(), ahead=3)
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(made) <= 5 + 3 + 1  # one in hand, waiting for room
    assert list(items) == list(range(5, 50))


def test_an_error_comes_out_after_the_items_before_it():
    def numbers():
        yield 1
        raise OSError("disk")

    items = prefetched(numbers())
    assert next(items) == 1
    with pytest.raises(OSError, match="disk"):
        next(items)


def test_closing_stops_the_thread():
    before = threading.active_count()
    items = prefetched(iter(int, 1))
    next(items)
    items.close()
    assert threading.active_count() == before
