"""Simulated recordings in the layouts of 1Mpx and eTraM.

The street of `gen1` is stretched to 1280x720: an event lies somewhere in the 4 x 3 pixels that its pixel
covers, and boxes are stretched alike. A traffic sign that nobody sees is labelled beside them, so that
classes that are not scored occur. Every third recording of a split is DAT, where the layout has that, and
every other HDF5 file does not state its size.
"""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from jaxdet.data.events import dat
from jaxdet.data.events.streams import EventChunk, concatenate
from jaxdet.data.synthetic import gen1
from jaxdet.data.synthetic.claim import claim
from jaxdet.data.synthetic.gen1 import Simulation
from jaxdet.files import atomic
from jaxdet.formats import npy

WIDTH, HEIGHT = 1280, 720
_STRETCH = (4, 3)
_MARGIN = 32  # columns at the left that the stretched street does not reach
# Numbers of car and pedestrian, and of what is not scored, in the files of labels.
_ONEMPX, _ETRAM_3, _ETRAM_8 = (2, 0, 5), (2, 0, None), (1, 0, 6)


def stretched(split: str, number: int, simulation: Simulation) -> tuple[EventChunk, np.ndarray]:
    """Events and labels (rows of `dat.BOX_DTYPE`) of a recording on 1280x720 pixels."""
    chunks, labels = gen1.simulate(split, number, simulation)
    events = concatenate(chunks)
    rng = np.random.default_rng([simulation.seed, 7, gen1.SPLITS.index(split), number])
    x = events.x * _STRETCH[0] + rng.integers(0, _STRETCH[0], len(events.x)) + _MARGIN
    y = events.y * _STRETCH[1] + rng.integers(0, _STRETCH[1], len(events.y))
    table = gen1.box_table(labels)
    table["x"] = table["x"] * _STRETCH[0] + _MARGIN
    table["y"], table["h"] = table["y"] * _STRETCH[1], table["h"] * _STRETCH[1]
    table["w"] *= _STRETCH[0]
    return events._replace(x=x.astype(np.int16), y=y.astype(np.int16)), table


def _numbered(table: np.ndarray, numbers: tuple[int, int, int | None]) -> np.ndarray:
    """Rows as the data set has them, with the numbers of its classes and a sign in every labelled moment."""
    times = np.unique(table["t"]) if numbers[2] is not None else table["t"][:0]
    rows = np.zeros(len(table) + len(times), npy.ROWS)
    for name in ("t", "x", "y", "w", "h", "track_id"):
        rows[name][: len(table)] = table[name]
    rows["class_id"][: len(table)] = np.array(numbers[:2])[table["class_id"]]
    rows["t"][len(table) :], rows["class_id"][len(table) :] = times, numbers[2] or 0
    rows["x"][len(table) :], rows["w"][len(table) :], rows["h"][len(table) :] = 1200, 40, 60
    rows["class_confidence"] = 1
    return rows[np.argsort(rows["t"], kind="stable")]


def _save(path: Path, rows: np.ndarray) -> None:
    with atomic(path) as temporary:
        np.save(temporary, rows)


def write_h5(path: Path, events: EventChunk, with_size: bool) -> None:
    """Columns as RVT and eTraM store them; polarity is -1 and 1."""
    with atomic(path) as temporary, h5py.File(temporary, "w", track_order=True) as file:
        group = file.create_group("events")
        columns = {"x": ("u2", events.x), "y": ("u2", events.y), "t": ("i8", events.t_us)}
        columns["p"] = ("i2", np.where(events.p > 0, 1, -1))
        for name, (kind, column) in columns.items():
            group.create_dataset(name, data=column.astype(kind), compression="gzip")
        if with_size:
            group["height"], group["width"] = HEIGHT, WIDTH


def _onempx(out: Path, split: str, number: int, events: EventChunk, table: np.ndarray) -> None:
    name = f"synthetic_{split}_{number:04d}"
    if number % 3 == 2:
        dat.write_dat(out / split / f"{name}_td.dat", events, WIDTH, HEIGHT)
    else:
        write_h5(out / split / f"{name}_td.h5", events, number % 2 == 0)
    _save(out / split / f"{name}_bbox.npy", _numbered(table, _ONEMPX))


def _etram(out: Path, split: str, number: int, events: EventChunk, table: np.ndarray) -> None:
    name = f"{split}_{'night' if number % 2 else 'day'}_{number + 1:04d}"
    folder = out / "HDF5" / (f"{split}_h5_{number % 6 + 1}" if split == "train" else f"{split}_h5_1")
    write_h5(folder / f"{name}_td.h5", events, True)
    _save(folder / f"{name}_bbox.npy", _numbered(table, _ETRAM_3))
    eight = out / "class annotations" / f"eight_class_annotations_{split}"
    _save(eight / f"{name}_bbox.npy", _numbered(table, _ETRAM_8))


_LAYOUTS: dict[str, Callable[[Path, str, int, EventChunk, np.ndarray], None]] = {
    "1mpx": _onempx, "etram": _etram,
}  # fmt: skip


def _writer(layout: str) -> Callable[..., None]:
    def write(
        out: Path,
        counts: dict[str, int],
        simulation: Simulation,
        workers: int = 1,
        report: Callable[[str], None] = print,
    ) -> None:
        """Write `counts` recordings of each split; InputError if `out` holds anything else."""
        del workers
        simulation.check()
        claim(out, layout, str(simulation))
        for split, count in counts.items():
            for number in range(count):
                _LAYOUTS[layout](out, split, number, *stretched(split, number, simulation))
            report(f"{out}: {count} recordings of {split}")

    return write


# Writers of simulated sets by the name of their layout.
WRITERS = {name: _writer(name) for name in _LAYOUTS}
