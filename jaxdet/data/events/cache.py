"""Recordings of a split, opened when first read and shared by the threads of a process."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxdet.data.events import labels, recordings
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError

MAX_KEPT = 256  # about half a megabyte each: the millisecond index of a minute

T = TypeVar("T")


class Unreadable(InputError):
    """Error for a missing or damaged recording, which a run can skip (`data.skip_corrupt`)."""


class Recordings:
    """The recordings of `split` under `root`, by number, with every `label_every`-th labelled time.

    Open files are not pickled, so every worker process opens its own. Every failure to read is raised as
    `Unreadable`, which names the recording; a recording of another sensor size is an InputError.
    """

    def __init__(self, root: str | os.PathLike, split: str, height: int, width: int, label_every: int = 1):
        if label_every < 1:
            raise InputError(f"data.label_every is {label_every}, expected 1 or more")
        self.paths: list[Path] = recordings.find(root, split)
        self._size, self._label_every = (width, height), label_every
        self._close_all()

    def _close_all(self) -> None:
        self._open: OrderedDict[int, recordings.Recording] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "_size": self._size, "_label_every": self._label_every}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._close_all()

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """Path of a recording, to name it in a message."""
        return str(self.paths[index])

    def duration_ms(self, index: int) -> int:
        """Length of a recording in milliseconds."""
        return self._read(index, lambda recording: int(recording.duration_ms))

    def labels(self, index: int) -> tuple[np.ndarray, int]:
        """Label rows of a recording and its label interval in microseconds, thinned by `label_every`."""
        rows, interval_us = self._all_labels(index)
        return labels.thinned(rows, interval_us, self._label_every)[0], interval_us * self._label_every

    def label_times_left_out(self, index: int) -> int:
        """Number of a recording's labelled times that `label_every` leaves out."""
        return labels.thinned(*self._all_labels(index), self._label_every)[1]

    def _all_labels(self, index: int) -> tuple[np.ndarray, int]:
        return self._read(index, lambda recording: (recording.labels, int(recording.label_interval_us)))

    def count(self, index: int, edges_ms: np.ndarray) -> np.ndarray:
        """Number of events between consecutive milliseconds `edges_ms` [S + 1] -> int64 [S]."""

        def read(recording: recordings.Recording) -> np.ndarray:
            rows = recording.ms_start[np.clip(edges_ms, 0, recording.duration_ms)]
            return np.diff(rows.astype(np.int64))

        return self._read(index, read)

    def events(self, index: int, start_ms: int, stop_ms: int) -> EventChunk:
        """Events with start_ms <= t < stop_ms (milliseconds); there are none outside the recording."""
        chunk = self._read(index, lambda recording: recording.events(start_ms, stop_ms))
        width, height = self._size
        if len(chunk.x) and (chunk.x.max() >= width or chunk.y.max() >= height):
            raise Unreadable(
                f"{self.paths[index]}: an event outside the {width} x {height} pixels of the sensor between "
                f"{start_ms} and {stop_ms} ms, so the file is damaged; "
                "prepare it again, or set data.skip_corrupt"
            )
        return chunk

    def _read(self, index: int, read: Callable[[recordings.Recording], T]) -> T:
        recording = self._get(index)
        if (recording.width, recording.height) != self._size:
            raise InputError(
                f"{self.paths[index]}: sensor of {recording.width} x {recording.height} pixels, expected "
                f"{self._size[0]} x {self._size[1]}; set data.width and data.height"
            )
        try:
            return read(recording)
        except InputError as error:
            raise Unreadable(str(error)) from error
        except (OSError, KeyError, ValueError, IndexError) as error:
            raise Unreadable(
                f"{self.paths[index]}: cannot be read ({type(error).__name__}: {error}); "
                "prepare it again, or set data.skip_corrupt"
            ) from error

    def _get(self, index: int) -> recordings.Recording:
        with self._lock:
            if index in self._open:
                self._open.move_to_end(index)
                return self._open[index]
        try:
            recording = recordings.open_recording(self.paths[index])
        except InputError as error:
            raise Unreadable(str(error)) from error
        with self._lock:
            self._open[index] = recording
            while len(self._open) > MAX_KEPT:
                self._open.popitem(last=False)
        return recording
