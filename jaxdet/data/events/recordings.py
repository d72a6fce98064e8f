"""Prepared recordings, which `prepare` writes and everything else reads.

A recording is a folder `<root>/<split>/<name>/`, renamed into place when it is complete:

    events.npy     uint32 [events], in order of time: x | y << 11 | polarity << 21 | (t_us mod 1000) << 22
    ms_start.npy   int64 [milliseconds + 1]: events of millisecond m are rows ms_start[m] : ms_start[m + 1]
    labels.npy     LABEL_DTYPE [boxes]
    info.json      geometry, counts, label interval, where it came from, size and SHA-256 of the files above
    .jaxdet        marker of a folder that `prepare` made and may therefore replace (`folders`)

Times in these arrays count from `start_us` of info.json (0 if it is not there), which is in the clock of the
camera, a multiple of 1 ms. The millisecond of an event is in the index and the rest of its time in its word.
An event therefore takes 4 bytes, half of a DAT record, and a random read of 10,000 events touches 10
consecutive pages of one file.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet import files, folders
from jaxdet.data.events import dat
from jaxdet.data.events.open import open_events as open_file
from jaxdet.data.events.streams import EventChunk, EventStream
from jaxdet.errors import InputError
from jaxdet.formats import arrays

MAX_WIDTH, MAX_HEIGHT = 1 << 11, 1 << 10  # pixels that the bits of a word can number
LABEL_DTYPE = np.dtype([*dat.BOX_DTYPE.descr, ("invalid", "?")])
ARRAYS = ("events.npy", "ms_start.npy", "labels.npy")
_NUMBERS = ("width", "height", "duration_ms", "num_events", "label_interval_us")
KIND = "recording"  # in the marker of the folder
_WHOLE = "a complete array; delete the folder and prepare it again"
_TEMPORARY = re.compile(r"\..*\.partial(\.npy|\.json|)")


class Recording:
    """One prepared recording; files are opened when first needed, and again in another process."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        try:
            self.info: dict[str, Any] = json.loads((self.path / "info.json").read_text(encoding="utf-8"))
            files.check_version(self.info, self.path / "info.json")
            self.name: str = files.safe_name(self.info["name"], f"{self.path / 'info.json'}: name")
            numbers = {name: int(self.info.get(name, 0)) for name in ("start_us", *_NUMBERS)}
            missing = [name for name in _NUMBERS if name not in self.info]
            if missing or min(numbers.values()) < 0 or max(numbers.values()) >= 1 << 62:
                raise ValueError(f"no {missing[0]}" if missing else f"numbers {numbers}")
        except InputError:
            raise
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise InputError(
                f"{path}: not a prepared recording ({type(error).__name__}: {error}), "
                "expected a folder with info.json; run `prepare`"
            ) from error
        self.width, self.height = numbers["width"], numbers["height"]
        self.duration_ms, self.num_events = numbers["duration_ms"], numbers["num_events"]
        self.start_us = numbers["start_us"]  # in the clock of the camera
        self.label_interval_us = numbers["label_interval_us"]

    def __reduce__(self) -> tuple[Any, ...]:
        return open_recording, (self.path,)

    def _load(self, file: str) -> np.ndarray:
        return arrays.load(self.path / file, _WHOLE)

    @cached_property
    def ms_start(self) -> np.ndarray:
        """int64 [duration_ms + 1]: events of millisecond m are rows ms_start[m] : ms_start[m + 1]."""
        starts = self._load("ms_start.npy")
        wanted = (self.duration_ms + 1,)
        if starts.dtype != np.int64 or starts.shape != wanted:
            found = f"{starts.dtype} {starts.shape}, not int64 {wanted}"
        elif starts[0] < 0 or starts[-1] > self.num_events or (np.diff(starts) < 0).any():
            found = f"not rising from 0 to {self.num_events} events"
        else:
            return starts
        raise InputError(f"{self.path / 'ms_start.npy'}: {found}; expected {_WHOLE}")

    @cached_property
    def labels(self) -> np.ndarray:
        """All boxes, LABEL_DTYPE, in order of time from the start; `invalid` ones included."""
        return self._load("labels.npy")

    @cached_property
    def _offset(self) -> int:
        """Bytes before the first word of events.npy."""
        return arrays.offset(self.path / "events.npy", np.dtype(np.uint32), _WHOLE)

    def _words(self, start: int, stop: int) -> np.ndarray:
        """Read rows of events.npy.

        They are not memory-mapped, because access to a mapped file that was truncated kills the process.
        """
        path = self.path / "events.npy"
        try:
            word = np.fromfile(path, np.uint32, stop - start, offset=self._offset + 4 * start)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: unreadable ({error}), expected {self.num_events} events; "
                "delete the folder and prepare it again"
            ) from error
        if len(word) != stop - start:
            raise InputError(
                f"{path}: ends before event {stop}, expected {self.num_events}; "
                "delete the folder and prepare it again"
            )
        return word

    def events(self, start_ms: int, stop_ms: int) -> EventChunk:
        """Events with start_ms <= t < stop_ms, milliseconds from the start; there are none outside it.

        Their times count from the start as well.
        """
        start, stop = (min(max(ms, 0), self.duration_ms) for ms in (start_ms, stop_ms))
        if stop <= start:
            return EventChunk.none()
        bounds = self.ms_start[start : stop + 1]
        word = self._words(int(bounds[0]), int(bounds[-1]))
        whole_ms = np.repeat(np.arange(start, stop, dtype=np.int64) * 1000, np.diff(bounds))
        return EventChunk(
            whole_ms + (word >> 22),
            (word & 0x7FF).astype(np.int16),
            (word >> 11 & 0x3FF).astype(np.int16),
            (word >> 21 & 1).astype(np.int8),
        )

    def counts(self, span_ms: int) -> np.ndarray:
        """Number of events in each span of `span_ms` milliseconds from the start, int64 [spans]."""
        edges = np.append(np.arange(0, self.duration_ms, span_ms), self.duration_ms)
        return np.diff(self.ms_start[edges].astype(np.int64))

    def stream(self, chunk_ms: int = 50) -> Iterator[EventChunk]:
        """All events in order of time, in the clock of the camera."""
        for start in range(0, self.duration_ms, chunk_ms):
            events = self.events(start, start + chunk_ms)
            yield events._replace(t_us=events.t_us + self.start_us)


def open_recording(path: str | os.PathLike) -> Recording:
    """Open the prepared recording in folder `path`; raises InputError if it is not one."""
    return Recording(path)


def find(root: str | os.PathLike, split: str) -> list[Path]:
    """Folders of the prepared recordings of a split, sorted by name; InputError if there are none."""
    paths = sorted(path.parent for path in Path(root, split).glob("[!.]*/info.json"))
    if not paths:
        raise InputError(
            f"{Path(root, split)}: no prepared recordings, expected some; run `prepare` with --out {root}"
        )
    return paths


def chunk(text: str) -> tuple[int, int]:
    """Index and count of a part written as `i/n`, from 0; InputError if it is not one."""
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise InputError(f"--chunk={text}, expected i/n with 0 <= i < n, for example 0/4")
    return int(index), int(count)


def part(root: str | os.PathLike, split: str, text: str) -> tuple[list[Path], int]:
    """Recordings of part `i/n` of a split, and the number of recordings of the whole split.

    Parity: earlier parts are one longer where the division leaves a rest, as in the released code.
    """
    paths = find(root, split)
    index, count = chunk(text)
    return [paths[i] for i in np.array_split(np.arange(len(paths)), count)[index]], len(paths)


def open_events(path: str | os.PathLike, sensor: tuple[int, int] | None = None) -> EventStream:
    """Stream the events of a prepared folder or of a file; see `open.open_events`."""
    if not Path(path).is_dir():
        return open_file(path, sensor=sensor)
    recording = open_recording(path)
    height, width = sensor or (recording.height, recording.width)
    return EventStream(recording.path, "prepared", width, height, lambda _: recording.stream())


def check_size(path: str | os.PathLike, width: int, height: int) -> None:
    """Raise InputError, naming `path`, if a prepared recording cannot hold a sensor of this size."""
    if not (0 < width <= MAX_WIDTH and 0 < height <= MAX_HEIGHT):
        raise InputError(
            f"{path}: a sensor of {width} x {height} pixels, "
            f"a prepared recording holds at most {MAX_WIDTH} x {MAX_HEIGHT}; "
            "predict reads the file itself, without preparation"
        )


def pack(events: EventChunk) -> np.ndarray:
    """Pack events into uint32 words of events.npy; InputError for one beyond 2048 columns or 1024 rows."""
    for name, column, limit in (("column", events.x, MAX_WIDTH), ("row", events.y, MAX_HEIGHT)):
        if len(column) and not 0 <= column.min() <= column.max() < limit:
            worst = column.min() if column.min() < 0 else column.max()
            raise InputError(
                f"event in {name} {worst}, a prepared recording holds {name}s 0 to {limit - 1}; "
                "predict reads the file itself, without preparation"
            )
    word = (events.t_us % 1000).astype(np.uint32) << 22
    word |= events.p.astype(np.uint32) << 21
    word |= events.y.astype(np.uint32) << 11
    word |= events.x.astype(np.uint32)
    return word


def index(t_us: np.ndarray, duration_ms: int) -> np.ndarray:
    """Millisecond index int64 [duration_ms + 1] of non-decreasing times; InputError for times outside it."""
    if len(t_us) and (t_us[0] < 0 or t_us[-1] >= duration_ms * 1000):
        late = len(t_us) - int(np.searchsorted(t_us, duration_ms * 1000))
        raise InputError(
            f"{late} of {len(t_us)} events at or after {duration_ms / 1000:g} s "
            f"(the last at {t_us[-1] / 1e6:.6f} s), expected none; "
            f"prepare with --duration_s={int(t_us[-1]) // 1_000_000 + 1} to keep them, "
            "or with --duration_s=0, where a recording begins at its first event"
        )
    return np.searchsorted(t_us, np.arange(duration_ms + 1, dtype=t_us.dtype) * 1000).astype(np.int64)


def write(
    path: str | os.PathLike,
    words: np.ndarray,
    ms_start: np.ndarray,
    labels: np.ndarray,
    info: dict[str, Any],
) -> dict[str, Any]:
    """Write the recording folder `path` from words, index, labels and `info`; return the whole info.json.

    The folder appears whole or not at all, also when the process is killed or the disk is full. An older
    recording is replaced. Raises InputError when something else is there, or the last part of `path` is not a
    plain name.
    """
    with replacing(path) as partial:
        for file, array in zip(ARRAYS, (words, ms_start, labels), strict=True):
            save_array(partial / file, array)
        return describe(partial, Path(path).name, info, len(words), len(labels))


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield the unfinished folder of a recording; after the body it takes the place of `path`."""
    path = Path(path)
    files.safe_name(path.name, "name of a recording")
    folders.check_own(path, KIND, _made_before)
    partial = path.with_name(f".{path.name}.partial")
    folders.remove_own(partial, KIND, _made_before)
    try:
        folders.begin(partial, KIND)
        yield partial
        folders.finish(partial, KIND)
        folders.replace_own(partial, path, KIND, _made_before)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        folders.discard(partial, KIND)


def describe(
    partial: Path, name: str, info: dict[str, Any], num_events: int, num_labels: int
) -> dict[str, Any]:
    """Write info.json beside the arrays and return its content."""
    sums = {
        file: {"size": (partial / file).stat().st_size, "sha256": files.sha256(partial / file)}
        for file in ARRAYS
    }
    info = files.stamped(
        {"name": name, **info, "num_events": num_events, "num_labels": num_labels, "files": sums}
    )
    with files.atomic(partial / "info.json") as temporary:
        temporary.write_text(json.dumps(info, indent=1) + "\n")
    return info


def _made_before(path: Path) -> bool:
    """True if a folder without a marker is a recording, complete or unfinished, that version 0.1.0 wrote."""
    names = {entry.name for entry in path.iterdir()}
    if not all((path / name).is_file() and not (path / name).is_symlink() for name in names):
        return False
    if not all(name in (*ARRAYS, "info.json") or _TEMPORARY.fullmatch(name) for name in names):
        return False
    if path.name.startswith(".") and path.name.endswith(".partial"):
        return True
    try:
        return set(json.loads((path / "info.json").read_text())["files"]) == set(ARRAYS)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def save_array(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write an array as .npy."""
    # numpy.save reports a full disk only as "N requested and M written".
    with files.atomic(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(np.ascontiguousarray(array).view(np.uint8).data)


def check(path: str | os.PathLike, full: bool) -> str | None:
    """First difference of files from their recorded sizes (and checksums, if `full`), or None."""
    recording = open_recording(path)
    for file in ARRAYS:
        expected, found = recording.info["files"][file], recording.path / file
        if not found.exists() or found.stat().st_size != expected["size"]:
            return f"{found}: missing or of another size than the {expected['size']} bytes recorded"
        if full and files.sha256(found) != expected["sha256"]:
            return f"{found}: another checksum than recorded"
    return None
