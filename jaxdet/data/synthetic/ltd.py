"""Simulated thermal clips in LTD's source layout, with annotations for the test months too.

Every clip draws from a generator seeded by (seed, date, clip number) and every month has its weather, so a
clip is the same in Day, Week and Month, for any number of clips or processes. There is one camera, as in LTD.
"""

import logging
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from jaxdet import folders
from jaxdet.data.datasets import ltd
from jaxdet.data.synthetic import jobs, thermal
from jaxdet.errors import InputError

logger = logging.getLogger(__name__)

# Days of February that a training split spans.
_DAYS = {"Day": (13,), "Week": tuple(range(13, 20)), "Month": tuple(range(1, 29))}
_TEST_DAYS = 28
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 95]
DESCRIPTION = "synthetic_ltd.txt"
_KIND = "simulated clip"  # in the marker of its folders


class Clip(NamedTuple):
    """One clip to simulate: `part` is "Train" or "Test", `split` a split or a month."""

    part: str
    split: str
    date: str
    number: int

    @property
    def name(self) -> str:
        """Folder of the clip; clips of a day are an hour apart."""
        return f"clip_{self.number}_{self.number % 24:02d}00"


def plan(counts: dict[str, int], test_clips: int) -> list[Clip]:
    """List clips of training splits (`counts`) and `test_clips` of every test month, spread over days."""
    clips = []
    for split, days in _DAYS.items():
        for i in range(counts.get(split, 0)):
            clips.append(Clip("Train", split, f"202102{days[i % len(days)]:02d}", i // len(days)))
    for split in ltd.TEST_MONTHS if test_clips else ():
        month = ltd.MONTHS.index(split) + 1
        for i in range(test_clips):
            clips.append(Clip("Test", split, f"2021{month:02d}{i % _TEST_DAYS + 1:02d}", i // _TEST_DAYS))
    return clips


def write(
    out: str | Path,
    counts: dict[str, int],
    test_clips: int,
    seed: int = 0,
    num_frames: int = 120,
    workers: int = 2,
) -> None:
    """Write the clips that `out` does not hold yet. An interrupted call can be run again.

    Raises InputError when `out` holds clips of another seed or length.
    """
    out = Path(out)
    if not 1 <= num_frames <= 9999:
        raise InputError(f"{num_frames} frames per clip, expected 1 to 9999; change --frames")
    jobs.describe(out / DESCRIPTION, f"seed {seed}, {num_frames} frames a clip\n")
    clips = plan(counts, test_clips)
    missing = [clip for clip in clips if not _folders(out, clip)[1].is_dir()]
    logger.info("%s: %d clips of %d frames, %d to simulate", out, len(clips), num_frames, len(missing))
    write_one = partial(write_clip, out, seed=seed, num_frames=num_frames)
    jobs.run(write_one, [(clip,) for clip in missing], workers, "clips")


def _folders(out: Path, clip: Clip) -> tuple[Path, Path]:
    base = out / clip.part / clip.split
    return base / "frames" / clip.date / clip.name, base / "annotations" / clip.date / clip.name


def simulate(date: str, number: int, seed: int, num_frames: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the frames uint8 [288, 384] of a clip with labels int [M, 5]: class, x1, y1, x2, y2, pixels."""
    scene = thermal.camera(seed)
    conditions = thermal.weather(int(date[4:6]) - 1, seed)
    rng = np.random.default_rng([seed, 3, int(date), number])
    movers = thermal.traffic(num_frames, scene, conditions, rng)
    for index in range(num_frames):
        yield thermal.frame(index, scene, conditions, movers, rng)


def write_clip(out: Path, clip: Clip, seed: int, num_frames: int) -> None:
    """Simulate one clip. Its annotations get their name last, which marks it as complete.

    Raises InputError when frames or annotations exist there that were not simulated.
    """
    partial = [folder.with_name(f".{folder.name}.partial") for folder in _folders(out, clip)]
    for folder in _folders(out, clip):
        folders.check_own(folder, _KIND)
    for folder in partial:
        folders.remove_own(folder, _KIND, _made_before)
        folders.begin(folder, _KIND)
    frames, annotations = partial
    for index, (picture, labels) in enumerate(simulate(clip.date, clip.number, seed, num_frames)):
        _, data = cv2.imencode(".jpg", picture, _QUALITY)
        (frames / f"image_{index:04d}.jpg").write_bytes(data.tobytes())
        lines = [
            f"{i} {ltd.CLASSES[label]} {x1} {y1} {x2} {y2} 0\n"
            for i, (label, x1, y1, x2, y2) in enumerate(labels.tolist())
        ]
        (annotations / f"annotations_{index:04d}.txt").write_text("".join(lines))
    for folder, final in zip(partial, _folders(out, clip), strict=True):
        folders.finish(folder, _KIND)
        folders.replace_own(folder, final, _KIND)


def _made_before(partial: Path) -> bool:
    """True if a folder without a marker holds only files of a clip that version 0.1.0 left unfinished."""
    name = re.compile(r"image_\d{4}\.jpg|annotations_\d{4}\.txt")
    return all(name.fullmatch(p.name) and p.is_file() and not p.is_symlink() for p in partial.iterdir())
