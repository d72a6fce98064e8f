"""Preparation of LTD: the distributed folders become folders of images, labels and frame lists.

Images are linked by default. A label file is written after its image and replaced as a whole, so an
interrupted run can be resumed.
"""

from collections.abc import Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from jaxdet import terminal
from jaxdet.data.datasets import coco_layout, ltd
from jaxdet.data.images import decoding
from jaxdet.errors import InputError
from jaxdet.files import atomic, finished, safe_name


@dataclass
class LtdReport:
    """Counts of the frames by result, and the problems met."""

    num_made: int = 0
    num_kept: int = 0
    num_unlabelled: int = 0  # frames of a training split without objects: left out, as released
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    frame: ltd.Frame
    out: Path
    train: bool
    link: str
    verify: bool


def prepare(
    source: str | Path,
    out: str | Path,
    lists: Sequence[str] = tuple(ltd.LISTS),
    link: str = "hard",
    verify: bool = False,
    by_day: Mapping[str, Container[int]] | None = None,
    workers: int = 8,
) -> LtdReport:
    """Prepare every split of Train and month of Test that `source` has.

    Training splits keep the frames with objects; months keep all frames, with labels where there are
    annotations. Frame lists of the named rules (`ltd.LISTS`) are written for the training splits. With
    `verify` existing files in `out` are compared with `source`. A frame that cannot be prepared is a line of
    `problems`. `by_day` maps names to days of the month: `<out>/<name>.txt` lists all annotated frames of
    these days. Raises InputError for an unknown list, a list without frames, and a `source` without splits.
    """
    source, out, total = Path(source), Path(out), LtdReport()
    for name in lists:
        if name not in ltd.LISTS:
            raise InputError(f"frame list {name!r} is unknown; choose from {', '.join(ltd.LISTS)}")
    splits = [("Train", s) for s in ltd.TRAIN_SPLITS] + [("Test", s) for s in ltd.MONTHS]
    splits = [(part, split) for part, split in splits if (source / part / split).is_dir()]
    if not splits:
        raise InputError(f"{source}: expected Train/{{Day,Week,Month}} or Test/<Mon> below it")
    for part, split in splits:
        frames = ltd.find_frames(source / part / split)
        jobs = [_Job(frame, out / split, part == "Train", link, verify) for frame in frames]
        labels = _run(jobs, total, workers, f"{part}/{split}")
        if part == "Train":
            for name in lists:
                keys = ltd.sample(labels, ltd.LISTS[name])
                _write(out / split / f"{name}.txt", ltd.list_text(keys))
    for name, days in (by_day or {}).items():
        _write(out / f"{name}.txt", _list_of_days(out, [split for _, split in splits], name, days))
    return total


def _list_of_days(out: Path, splits: Sequence[str], name: str, days: Container[int]) -> str:
    lines = [
        f"./{split}/images/{label.stem}.jpg\n"
        for split in splits
        for label in finished((out / split / "labels").glob("*.txt"), out)
        if ltd.day_of(label.stem) in days
    ]
    if not lines:
        raise InputError(f"{out}: no annotated frame falls on the days of list {name!r}; change --by_day")
    return "".join(lines)


def _run(jobs: Sequence[_Job], total: LtdReport, workers: int, title: str) -> dict[str, frozenset[int]]:
    """Prepare the frames of one split; return the classes in each frame that has labels, by key."""
    labels: dict[str, frozenset[int]] = {}
    with ThreadPoolExecutor(workers) as pool:
        results = zip(jobs, pool.map(_attempt, jobs), strict=True)
        for job, result in terminal.track(results, title, len(jobs), "frames"):
            if isinstance(result, InputError):
                total.problems.append(str(result))
                continue
            made, classes = result
            total.num_made += made == "made"
            total.num_kept += made == "kept"
            total.num_unlabelled += made == "unlabelled"
            if classes:
                labels[job.frame.key] = classes
    return labels


def _attempt(job: _Job) -> tuple[str, frozenset[int]] | InputError:
    try:
        return _frame(job)
    except InputError as error:
        return error


def _frame(job: _Job) -> tuple[str, frozenset[int]]:
    """Prepare one frame; return "made", "kept" or "unlabelled", and the classes in it."""
    frame = job.frame
    safe_name(frame.key, f"{frame.image}: key of the frame")
    annotation = ltd.read_annotation(frame.annotation) if frame.annotation.is_file() else None
    classes = frozenset() if annotation is None else frozenset(annotation.labels.tolist())
    if job.train and not classes:
        return "unlabelled", classes
    image = job.out / "images" / f"{frame.key}.jpg"
    label = job.out / "labels" / f"{frame.key}.txt"
    kept = image.exists() and (annotation is None or label.exists())
    if kept and job.verify:
        kept = _same(image, frame.image)
    if not kept:
        size = decoding.size_of(frame.image)
        if size != (ltd.HEIGHT, ltd.WIDTH):
            raise InputError(f"{frame.image}: {size[1]}x{size[0]} pixels, expected {ltd.WIDTH}x{ltd.HEIGHT}")
        coco_layout.place(frame.image, image, job.link)
    if annotation is not None:
        text = ltd.label_text(annotation)
        if not kept or label.read_text() != text:
            _write(label, text)
            kept = False
    return "kept" if kept else "made", classes


def _same(image: Path, source: Path) -> bool:
    return image.samefile(source) or image.read_bytes() == source.read_bytes()


def _write(path: Path, text: str) -> None:
    if path.is_file() and path.read_text() == text:
        return
    with atomic(path) as temporary:
        temporary.write_text(text)
