"""Facts about recordings whose answer is known from how they were made."""

import numpy as np
import pytest

from jaxdet.data.events import summary
from jaxdet.data.events.streams import EventChunk, EventStream


def stream(t, x, y, p, size=(32, 24), pieces=1):
    columns = [
        np.array_split(np.asarray(c, k), pieces) for c, k in zip((t, x, y, p), ("i8", "i2", "i2", "i1"))
    ]
    chunks = [EventChunk(*parts) for parts in zip(*columns, strict=True)]
    return EventStream(None, "made", *size, lambda _: iter(chunks))


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_times_rates_gaps_and_pixels(pieces):
    # 3 events in the 5 ms from 10,000 us on, 4 in those from 25,000 on, one after a pause of 175 ms.
    t = [10_000, 12_000, 14_999, 25_000, 26_000, 27_000, 29_999, 204_999]
    facts = summary.summarise(
        stream(t, [5, 5, 5, 31, 5, 0, 0, 1], [7, 7, 7, 23, 7, 0, 0, 2], [1] * 6 + [0] * 2, pieces=pieces)
    )
    assert (facts["events"], facts["first_us"], facts["last_us"]) == (8, 10_000, 204_999)
    assert facts["peak"] == {"events": 4, "start_us": 25_000, "rate": 800.0}
    assert facts["rate"] == pytest.approx(8 / 0.194999)
    assert (facts["num_gaps"], facts["gaps"]) == (1, [[29_999, 204_999]])
    assert (facts["on_share"], facts["sensor"], facts["reaches"]) == (0.75, [32, 24], [32, 24])
    assert facts["hottest"] == [[5, 7, 4], [0, 0, 2], [1, 2, 1], [31, 23, 1]]
    assert facts["left_out"] == {}


def test_a_pause_of_exactly_the_limit_is_no_gap_and_the_longest_gaps_are_listed():
    facts = summary.summarise(stream([0, 100_000], [0, 0], [0, 0], [0, 0]))
    assert facts["num_gaps"] == 0
    steps = 200_000 * np.arange(1, 10)
    facts = summary.summarise(stream(np.cumsum(steps), [0] * 9, [0] * 9, [0] * 9))
    assert facts["num_gaps"] == 8
    assert [after - before for before, after in facts["gaps"]] == [200_000 * n for n in (9, 8, 7, 6, 5)]


def test_events_outside_the_sensor_are_counted_and_in_no_other_number():
    facts = summary.summarise(stream([0, 1, 2, 9_000_000], [31, 32, -1, 40], [0, 0, 5, 0], [1, 0, 0, 0]))
    assert (facts["events"], facts["last_us"], facts["on_share"]) == (1, 0, 1.0)
    assert facts["left_out"] == {"events outside the sensor": 3}


def test_a_file_without_a_size_says_how_far_events_reach():
    facts = summary.summarise(stream([0, 5], [77, 3], [1, 41], [1, 0], size=(None, None)))
    assert (facts["sensor"], facts["reaches"]) == (None, [78, 42])
    assert facts["hottest"] == [[77, 1, 1], [3, 41, 1]]


def test_no_events_are_no_error():
    facts = summary.summarise(stream([], [], [], []))
    assert (facts["events"], facts["rate"], facts["peak"], facts["hottest"]) == (0, None, None, [])


def test_times_that_ran_backwards_are_said():
    facts = summary.summarise(stream([0, 50_000, 10, 60_000], [0] * 4, [0] * 4, [0] * 4))
    assert (facts["events"], facts["last_us"], sum(facts["changed"].values())) == (4, 60_000, 1)
