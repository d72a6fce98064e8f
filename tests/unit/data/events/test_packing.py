"""Buckets: what the largest one cannot hold is said with one that can."""

import numpy as np

from jaxdet.data.events import packing


def test_events_beyond_the_largest_bucket_are_counted_and_a_bucket_for_them_is_named():
    line = packing.overflow(np.array([10, 9_000, 4_096, 5_000]), (4_096, 1_024), 90)
    # 9000 - 4096 and 5000 - 4096; 9000 in units of 8192 is 16384.
    assert line.startswith("at least 5808 of 18106 events will be left out, of 2 of 4 segments of 90 ms")
    assert "--config.data.event_buckets=1024,4096,16384 holds" in line


def test_nothing_is_said_if_all_fit():
    assert packing.overflow(np.array([10, 4_096]), (1_024, 4_096), 90) == ""
    assert packing.overflow(np.zeros(0, int), (1_024,), 90) == ""
