"""Prepared recordings written as their events come, in bounded memory; `recordings` describes the folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet.data.events import recordings
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError

MAX_DURATION_MS = 24 * 3_600_000


class RecordingWriter:
    """Events of one recording in the making, appended as they come; see `open_writer`."""

    def __init__(self, partial: Path, name: str):
        self._partial, self._name = partial, name
        self._file = open(partial / "events.npy", "wb")
        self._num_events, self._counts = 0, np.zeros(0, np.int64)  # events of each millisecond so far
        self._write_header()

    def _write_header(self) -> None:
        empty = np.lib.format.header_data_from_array_1_0(np.zeros(0, np.uint32))
        np.lib.format.write_array_header_1_0(self._file, empty | {"shape": (self._num_events,)})

    def append(self, events: EventChunk) -> None:
        """Append events, whose times count from the start and do not decrease from call to call.

        Raises InputError for a time beyond `MAX_DURATION_MS`, which comes from a damaged clock.
        """
        if not len(events.t_us):
            return
        last_ms = int(events.t_us[-1]) // 1000
        if last_ms >= MAX_DURATION_MS:
            raise InputError(
                f"an event {last_ms / 3_600_000:.3g} hours after the first one, expected at most "
                f"{MAX_DURATION_MS // 3_600_000}; cut the recording, or look at its clock with `info`"
            )
        if last_ms >= len(self._counts):
            more = max(last_ms + 1, 2 * len(self._counts)) - len(self._counts)
            self._counts = np.concatenate([self._counts, np.zeros(more, np.int64)])
        first_ms = int(events.t_us[0]) // 1000
        counts = np.bincount(events.t_us // 1000 - first_ms)
        self._counts[first_ms : first_ms + len(counts)] += counts
        self._file.write(recordings.pack(events).data)
        self._num_events += len(events.t_us)

    @property
    def num_events(self) -> int:
        """Events so far."""
        return self._num_events

    def ms_start(self, duration_ms: int) -> np.ndarray:
        """Millisecond index of `duration_ms` milliseconds, which hold all events: int64 [duration_ms + 1]."""
        index = np.full(duration_ms + 1, self._num_events, np.int64)
        known = min(len(self._counts), duration_ms)
        index[0] = 0
        np.cumsum(self._counts[:known], out=index[1 : known + 1])
        return index

    def finish(self, labels: np.ndarray, duration_ms: int, info: dict[str, Any]) -> dict[str, Any]:
        """Write index, labels and `info`; returns the whole info.json."""
        self._file.seek(0)
        self._write_header()  # NumPy leaves room in it for the number to grow
        self.close()
        recordings.save_array(self._partial / "ms_start.npy", self.ms_start(duration_ms))
        recordings.save_array(self._partial / "labels.npy", labels)
        return recordings.describe(self._partial, self._name, info, self._num_events, len(labels))

    def close(self) -> None:
        """Close the file of events; what was not finished is removed by `open_writer`."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


@contextmanager
def open_writer(path: str | os.PathLike) -> Iterator[RecordingWriter]:
    """Write the recording folder `path` in bounded memory; it appears whole after `finish`, or not at all.

    Raises InputError as `write`.
    """
    with recordings.replacing(path) as partial:
        writer = RecordingWriter(partial, Path(path).name)
        try:
            yield writer
        finally:
            writer.close()
