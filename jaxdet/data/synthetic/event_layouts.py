"""Simulated recordings in the layouts of public sets and of own data.

The street of `gen1` is stretched to the sensor of the set: an event lies somewhere in the block of pixels
that its pixel covers, and boxes are stretched alike. In 1Mpx and eTraM a traffic sign that nobody sees is
labelled beside them, so that classes that are not scored occur. Of 1Mpx every third recording of a split is
DAT, and every other HDF5 file does not state its size.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from jaxdet.data.datasets import dsec_det
from jaxdet.data.events import dat, evt
from jaxdet.data.events.streams import EventChunk, concatenate
from jaxdet.data.synthetic import aedat4_files, gen1, jobs, scene
from jaxdet.data.synthetic.gen1 import Simulation
from jaxdet.errors import InputError
from jaxdet.files import atomic
from jaxdet.formats import npy, voc
from jaxdet.structs import Boxes

logger = logging.getLogger(__name__)

THREE = (scene.CAR, scene.PEDESTRIAN, scene.CYCLIST)
# Numbers of car and pedestrian, and of what is not scored, in the files of labels.
_ONEMPX, _ETRAM_3, _ETRAM_8 = (2, 0, 5), (2, 0, None), (1, 0, 6)
OWN_CLASSES = ("car", "pedestrian", "cyclist")
_PKU = (1, 2, 3)  # numbers of car, person and two-wheeler
_GEN4_SIZE = {"width": 1280, "height": 720}
_DSEC_CLOCK_US = 49_599_300_523  # no multiple of a step
_TRACKS = (
    [("t", "<u8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"), ("class_id", "u1"),
     ("class_confidence", "<f4"), ("track_id", "<u4"), ("img_name", "<U10")],
    [("t", "<u8"), ("x", "<f8"), ("y", "<f8"), ("h", "<f8"), ("w", "<f8"), ("class_id", "u1"),
     ("class_confidence", "<f8"), ("track_id", "<u8")],
)  # fmt: skip


class Layout(NamedTuple):
    """Sensor of a set and the function that writes its files."""

    width: int
    height: int
    stretch: tuple[int, int]  # pixels of the sensor for one of the street, columns and rows
    write: Callable[[Path, str, int, EventChunk, np.ndarray], None]
    classes: tuple[int, ...] = scene.CLASSES
    label_hz: float | None = None  # of the set; None: of the simulation


def stretched(
    split: str, number: int, simulation: Simulation, layout: Layout
) -> tuple[EventChunk, np.ndarray]:
    """Events and labels (rows of `dat.BOX_DTYPE`) of a recording on the sensor of a layout."""
    if layout.label_hz is not None:
        simulation = replace(simulation, label_hz=layout.label_hz, train_label_hz=layout.label_hz)
    chunks, labels = gen1.simulate(split, number, simulation, layout.classes)
    events = concatenate(chunks)
    rng = np.random.default_rng([simulation.seed, 7, gen1.SPLITS.index(split), number])
    table = gen1.box_table(labels)
    sides = zip("xy", "wh", layout.stretch, (layout.width, layout.height), (scene.WIDTH, scene.HEIGHT))
    for start, side, factor, size, street in sides:
        margin = (size - factor * street) // 2
        column = getattr(events, start) * factor + rng.integers(0, factor, len(events.t_us)) + margin
        events = events._replace(**{start: column.astype(np.int16)})
        table[start] = table[start] * factor + margin
        table[side] *= factor
    return events, table


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


def write_h5(
    path: Path, columns: dict[str, np.ndarray], beside: dict[str, int], root: dict[str, Any]
) -> None:
    """Columns in the group `events`, numbers `beside` them and others at the `root`."""
    with atomic(path) as temporary, h5py.File(temporary, "w", track_order=True) as file:
        group = file.create_group("events")
        for name, column in columns.items():
            group.create_dataset(name, data=column, compression="gzip")
        for name, value in beside.items():
            group[name] = value
        for name, value in root.items():
            file[name] = value


def _columns(events: EventChunk) -> dict[str, np.ndarray]:
    """Columns as RVT and eTraM store them; polarity is -1 and 1."""
    kinds = {"x": ("u2", events.x), "y": ("u2", events.y), "t": ("i8", events.t_us)}
    kinds["p"] = ("i2", np.where(events.p > 0, 1, -1))
    return {name: column.astype(kind) for name, (kind, column) in kinds.items()}


def _onempx(out: Path, split: str, number: int, events: EventChunk, table: np.ndarray) -> None:
    name = f"synthetic_{split}_{number:04d}"
    if number % 3 == 2:
        dat.write_dat(out / split / f"{name}_td.dat", events, 1280, 720)
    else:
        size = {} if number % 2 else _GEN4_SIZE
        write_h5(out / split / f"{name}_td.h5", _columns(events), size, {})
    _save(out / split / f"{name}_bbox.npy", _numbered(table, _ONEMPX))


def _etram(out: Path, split: str, number: int, events: EventChunk, table: np.ndarray) -> None:
    name = f"{split}_{'night' if number % 2 else 'day'}_{number + 1:04d}"
    folder = out / "HDF5" / (f"{split}_h5_{number % 6 + 1}" if split == "train" else f"{split}_h5_1")
    write_h5(folder / f"{name}_td.h5", _columns(events), _GEN4_SIZE, {})
    _save(folder / f"{name}_bbox.npy", _numbered(table, _ETRAM_3))
    eight = out / "class annotations" / f"eight_class_annotations_{split}"
    _save(eight / f"{name}_bbox.npy", _numbered(table, _ETRAM_8))


def _dsec_det(out: Path, split: str, number: int, events: EventChunk, table: np.ndarray) -> None:
    """An official sequence. Every fifth box is a rider's; at the last image there is none.

    Every other table has the columns as the description of the set orders them, not as its files do.
    """
    names = dsec_det.SEQUENCES[split]
    if number >= len(names):
        raise InputError(f"--{split}: {number + 1} recordings, DSEC-Det has {len(names)}; give fewer")
    folder = out / dsec_det.FOLDERS[split] / names[number]
    clock_us = _DSEC_CLOCK_US + number * 60_000_000
    t_us = events.t_us - events.t_us[0]
    columns = {"x": events.x.astype("u2"), "y": events.y.astype("u2"), "p": events.p.astype("u1")}
    columns["t"] = t_us.astype("u4")
    root = {"t_offset": clock_us + int(events.t_us[0])}
    root["ms_to_idx"] = np.searchsorted(t_us, np.arange(t_us[-1] // 1000 + 1) * 1000).astype("u8")
    write_h5(folder / dsec_det.EVENTS, columns, {}, root)
    rows = np.zeros(len(table), _TRACKS[number % 2])
    for name in ("x", "y", "w", "h", "track_id"):
        rows[name] = table[name]
    rows["t"] = table["t"] + np.uint64(clock_us)
    rows["class_id"] = np.where(np.arange(len(table)) % 5 == 4, 1, np.array([2, 0])[table["class_id"]])
    rows["class_confidence"] = 1
    _save(folder / dsec_det.TRACKS, rows)
    images = [*np.unique(rows["t"]).tolist(), clock_us + int(events.t_us[-1])]
    with atomic(folder / dsec_det.IMAGES) as temporary:
        temporary.write_text("".join(f"{image}\n" for image in images))


def _pedro(out: Path, split: str, number: int, events: EventChunk, table: np.ndarray) -> None:
    """Samples of the 40 ms before every labelled moment in which somebody is seen."""
    clock_us = 1_672_932_173_345_743 + (10 * gen1.SPLITS.index(split) + number) * 60_000_000
    rows = np.stack([np.asarray(events[name], np.int64) for name in range(4)], 1)
    table = table[table["class_id"] == scene.PEDESTRIAN]
    for index, end in enumerate(np.unique(table["t"]).astype(np.int64)):
        name = f"frame{number * 1000 + index:07d}"
        first, last = np.searchsorted(events.t_us, [end - 40_000, end])
        sample = rows[first:last] + np.array([clock_us, 0, 0, 0])
        if not len(sample):
            continue
        (out / "xml" / split).mkdir(parents=True, exist_ok=True)
        _save(out / "numpy" / split / f"{name}.npy", sample)
        of_frame = table[table["t"] == end]
        left, top, w, h = (of_frame[side].astype(np.float64) for side in "xywh")
        xyxy, labels = np.stack([left, top, left + w, top + h], 1), np.zeros(len(of_frame), np.int32)
        where = {"source": f"{name}.jpg", "image_size": (260, 346)}
        voc.write(
            out / "xml" / split, [Boxes(xyxy, np.ones(len(labels)), labels, **where)], ("person",), False
        )


def _pku_davis_sod(out: Path, split: str, number: int, events: EventChunk, table: np.ndarray) -> None:
    """A recording of each scene in turn, with a frame every 40 ms; half of the files misspell a key."""
    place = Path(split, ("normal", "low_light", "motion_blur")[number % 3])
    name = f"{number + 1:03d}_{split}_{place.name}"
    clock_us = 1_600_000_000_000_007 + number * 60_000_000
    times = np.unique(table["t"]).astype(np.int64)
    frames = np.arange(times[0] % 40_000, times[-1] + 1, 40_000)
    moved = events._replace(t_us=events.t_us + clock_us)
    aedat4_files.write(out / "raw" / place / f"{name}.aedat4", moved, (frames + clock_us).tolist(), 346, 260)
    for t_us in times:
        shapes = []
        for row in table[table["t"] == t_us]:
            x, y, w, h = (float(row[side]) for side in "xywh")
            key = "lable" if number % 2 else "label"
            shapes.append({key: str(_PKU[row["class_id"]]), "points": [[x + w, y], [x, y + h]]})
        path = out / "annotations" / place / name / f"{np.searchsorted(frames, t_us) + 1}.json"
        with atomic(path) as temporary:
            temporary.write_text(json.dumps({"shapes": shapes}))


def _events(out: Path, split: str, number: int, events: EventChunk, table: np.ndarray) -> None:
    """EVT3 and a table of labels, as somebody may have them who recorded and labelled."""
    name = f"{split}_{number:04d}"
    path = out / "recordings" / split / f"{name}.raw"
    path.parent.mkdir(parents=True, exist_ok=True)
    evt.write_evt3(path, events, 640, 480)
    lines = ["time_us,x,y,w,h,class,track"]
    for row in table:
        numbers = [int(row[name]) for name in ("t", "x", "y", "w", "h")]
        lines.append(",".join(map(str, [*numbers, OWN_CLASSES[row["class_id"]], int(row["track_id"])])))
    with atomic(out / "labels" / f"{name}.csv") as temporary:
        temporary.write_text("\n".join(lines) + "\n")


LAYOUTS = {
    "1mpx": Layout(1280, 720, (4, 3), _onempx),
    "etram": Layout(1280, 720, (4, 3), _etram),
    "dsec-det": Layout(640, 480, (2, 2), _dsec_det, label_hz=20),
    "pedro": Layout(346, 260, (1, 1), _pedro, label_hz=25),
    "pku-davis-sod": Layout(346, 260, (1, 1), _pku_davis_sod, THREE, label_hz=25),
    "events": Layout(640, 480, (2, 2), _events, THREE),
}


def write(name: str, out: Path, counts: dict[str, int], simulation: Simulation, workers: int = 1) -> None:
    """Write `counts` recordings of each split in a layout; InputError if `out` holds anything else."""
    simulation.check()
    jobs.claim(out, name, str(simulation))
    wanted = [(split, number) for split, count in counts.items() for number in range(count)]
    jobs.run(partial(_write_recording, name, out, simulation), wanted, workers, "recordings")
    logger.info("%s: %d recordings in the layout of %s", out, len(wanted), name)


def _write_recording(name: str, out: Path, simulation: Simulation, split: str, number: int) -> None:
    layout = LAYOUTS[name]
    layout.write(out, split, number, *stretched(split, number, simulation, layout))


# Writers of simulated sets by the name of their layout.
WRITERS = {name: partial(write, name) for name in LAYOUTS}
