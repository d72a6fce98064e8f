"""Simulated recordings in GEN1's source layout, which are used like the real data set.

    out/{train,val,test}/synthetic_<split>_<number>_td.dat, ..._bbox.npy

Every recording draws from its own generator, seeded by (seed, split, number): recordings do not depend on how
many there are or on the number of processes, and no two share a scene. Files have equal bytes on every
machine.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from jaxdet.data.events import dat, streams
from jaxdet.data.synthetic import jobs
from jaxdet.data.synthetic.scene import CLASSES, FRAME_US, HEIGHT, WIDTH, Scene
from jaxdet.data.synthetic.sensor import Sensor
from jaxdet.errors import InputError

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
FRAMES_PER_CHUNK = 100
DESCRIPTION = "synthetic.json"


@dataclass(frozen=True)
class Simulation:
    """Settings that, with split and number, determine the bytes of a recording."""

    seed: int = 0
    duration_s: float = 8.0
    threshold: float = 0.6  # log intensity; half the threshold makes about twice the events
    label_hz: float = 4.0  # val and test, as in GEN1
    train_label_hz: float = 20.0  # simulated labels cost nothing, and a short training sees more of them

    def check(self) -> None:
        """Raises InputError for values that cannot be simulated."""
        for name, low, high in (
            ("seed", 0, 2**63),
            ("duration_s", 1, 600),
            ("threshold", 0.02, 2),
            ("label_hz", 0.1, 100),
            ("train_label_hz", 0.1, 100),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} is {value}, expected {low} to {high}; change --{name}")


def write(out: Path, counts: dict[str, int], simulation: Simulation, workers: int = 2) -> None:
    """Write the missing recordings of each split; `counts` maps splits to numbers of recordings.

    An interrupted call can be run again. Raises InputError when `out` holds another simulation.
    """
    simulation.check()
    jobs.describe(out / DESCRIPTION, json.dumps(asdict(simulation)))
    wanted = [(split, number) for split in SPLITS for number in range(counts.get(split, 0))]
    missing = [job for job in wanted if not _paths(out, *job)[1].exists()]
    logger.info(
        "%s: %d recordings of %g s, %d to simulate", out, len(wanted), simulation.duration_s, len(missing)
    )
    _warn_of_others(out, {_paths(out, *job)[1] for job in wanted})
    jobs.run(partial(write_recording, out, simulation=simulation), missing, workers, "recordings")


def _warn_of_others(out: Path, wanted: set[Path]) -> None:
    """Say which recordings of an earlier call are read with those that are wanted."""
    for split in SPLITS:
        others = {*(out / split).glob("*_bbox.npy")} - wanted
        if others:
            logger.warning(
                "%s: %d more recordings of %s are there and are used as well; remove the folder for a set "
                "without them",
                out,
                len(others),
                split,
            )


def _paths(out: Path, split: str, number: int) -> tuple[Path, Path]:
    name = f"synthetic_{split}_{number:04d}"
    return out / split / f"{name}_td.dat", out / split / f"{name}_bbox.npy"


def write_recording(out: Path, split: str, number: int, simulation: Simulation) -> None:
    """Simulate one recording and write its events, then its boxes, which mark it as complete."""
    events, boxes = _paths(out, split, number)
    chunks, labels = simulate(split, number, simulation)
    dat.write_dat(events, chunks, WIDTH, HEIGHT)
    dat.write_boxes(boxes, box_table(labels))


def simulate(
    split: str, number: int, simulation: Simulation, classes: tuple[int, ...] = CLASSES
) -> tuple[Iterator[streams.EventChunk], list[tuple]]:
    """Events of one recording, and a list that holds (frame, *label) of its labels once they are read."""
    seed = np.random.SeedSequence([simulation.seed, SPLITS.index(split), number])
    scene_rng, sensor_rng = (np.random.Generator(np.random.PCG64(child)) for child in seed.spawn(2))
    scene = Scene(scene_rng, int(simulation.duration_s * 1e6) // FRAME_US, classes)
    labels: list[tuple] = []
    label_hz = simulation.train_label_hz if split == "train" else simulation.label_hz
    label_frames = _label_frames(scene_rng, scene.num_frames, label_hz)
    return _simulate(scene, sensor_rng, simulation.threshold, label_frames, labels), labels


def box_table(labels: list[tuple]) -> np.ndarray:
    """Labels of a simulation as rows of `dat.BOX_DTYPE`."""
    table = np.zeros(len(labels), dat.BOX_DTYPE)
    names = ("t", "x", "y", "w", "h", "class_id", "track_id")
    for name, column in zip(names, np.array(labels, np.int64).reshape(-1, len(names)).T):
        table[name] = column * FRAME_US if name == "t" else column
    table["confidence"] = 1
    return table


def _label_frames(rng: np.random.Generator, num_frames: int, label_hz: float) -> frozenset[int]:
    """Frames with labels: at least 1 / label_hz apart, from a random time of the first interval on."""
    interval = int(np.ceil(1e6 / label_hz / FRAME_US))
    return frozenset(range(int(rng.integers(1, interval + 1)), num_frames, interval))


def _simulate(
    scene: Scene,
    rng: np.random.Generator,
    threshold: float,
    label_frames: frozenset[int],
    labels: list[tuple],
) -> Iterator[streams.EventChunk]:
    """Yield the events of the scene in chunks; append (frame, *label) rows to `labels` meanwhile."""
    image, pose = scene.log_intensity(0), scene.pose(0)
    sensor = Sensor(rng, image, threshold=threshold)
    chunks = []
    for frame in range(1, scene.num_frames):
        if scene.pose(frame) != pose:
            image, pose = scene.log_intensity(frame), scene.pose(frame)
        chunks.append(sensor.until(image, (frame - 1) * FRAME_US, frame * FRAME_US))
        if frame in label_frames:
            labels += [(frame, *label) for label in scene.labels(frame)]
        if len(chunks) == FRAMES_PER_CHUNK:
            yield streams.concatenate(chunks)
            chunks.clear()
    yield streams.concatenate(chunks)
