"""Evaluations as pages, with the worst pictures of the images or recordings at hand, and on trackers."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdet.data.events import recordings
from jaxdet.data.images import decoding, samples, scenes
from jaxdet.errors import InputError
from jaxdet.evaluation import coco
from jaxdet.evaluation.diagnosis import Diagnosis
from jaxdet.evaluation.metrics import Metrics
from jaxdet.formats import names
from jaxdet.structs import Boxes
from jaxdet.viewing import drawing, plots, report

_WINDOW_MS = 50  # events of a picture


def write(
    folder: str | Path,
    metrics: Metrics,
    diagnosis: Diagnosis,
    numbers: Mapping[str, Any],
    roots: Sequence[str | Path] = (),
) -> Path:
    """Write the page of `viewing.report` to `folder`; return its path.

    Pictures are looked for below `roots`: images by their path, recordings as prepared folders, of which the
    events of 50 ms before the labels are drawn. Boxes of others are drawn on a grey canvas.
    """
    return report.write(folder, numbers, metrics.curves(), diagnosis, _pairs(metrics, diagnosis, roots))


def on_trackers(writers: Sequence[Any], workdir: Path, start: int) -> Callable[[int, Metrics], None]:
    """Function that hands the metrics of a step, and their curves as a picture, to the trackers of a run.

    A run that begins (`start` is 0) hands them the pictures of its first batches at once.
    """
    trackers = [writer for writer in writers if hasattr(writer, "picture")]
    for tracker in trackers if start == 0 else ():
        for path in sorted(workdir.glob("batch_*.jpg")):
            tracker.picture(0, f"batches/{path.stem}", decoding.read(path)[..., ::-1])

    def show(step: int, metrics: Metrics) -> None:
        if not trackers:
            return
        with tempfile.TemporaryDirectory() as folder:
            drawn = Path(folder) / "curves.png"
            plots.precision_recall(drawn, **metrics.curves())
            curves = decoding.read(drawn)[..., ::-1]
        ap, ap50 = (float(value) for value in metrics.statistics[:2])
        for tracker in trackers:
            tracker.write(step, {"validation/AP": ap, "validation/AP50": ap50})
            tracker.picture(step, "validation/precision_recall", curves)

    return show


def picture_folders(
    images: str | None, annotations: str | None, data: Any = None, split: str | None = None
) -> list[Path]:
    """Folders in which the pictures of an evaluation may lie, the likeliest first.

    `images` and `annotations` are the flags of `evaluate`; `data` is the data block of the config, of whose
    `split` (default: the test split) the images or recordings were evaluated.
    """
    folders = []
    if images:
        given = Path(images)
        folders.append(given.parent if given.is_file() else given)
    if data is not None and "root" in data:
        name: str = split or data.test_split
        annotated = samples.annotated_split(data.root, name) if data.kind == "images" else None
        place = Path(data.root, scenes.part_of(name)[0])
        folders.append(annotated.folder if annotated else place.parent if place.is_file() else place)
    if annotations:
        folders.append(Path(annotations).parent / "images")
    return folders


def _pairs(metrics: Metrics, diagnosis: Diagnosis, roots: Sequence[str | Path]) -> Iterator[report.Pair]:
    truth, found, images = metrics.matched
    best = np.array([curve.best for curve in diagnosis.curves])
    found = coco.Table(*(column[found.scores >= best[found.labels]] for column in found))
    for worst in diagnosis.worst:
        image = images[worst.image]
        title = f"{names.path_name(image)}: {worst.num_missed} missed, {worst.num_false} false"
        sides = (_boxes(table, worst.image, image) for table in (truth, found))
        yield report.Pair(title, _picture(image, roots), *sides)


def _boxes(table: coco.Table, index: int, image: Boxes) -> Boxes:
    rows = table.image == index
    where = {"source": image.source, "image_size": image.image_size}
    return Boxes.of_xywh(table.xywh[rows], table.scores[rows], table.labels[rows], **where)


def _picture(image: Boxes, roots: Sequence[str | Path]) -> np.ndarray | None:
    """The picture, BGR, or None if it is not below `roots` or cannot be read."""
    for root in map(Path, roots):
        path = root / image.source
        try:
            if image.time_us is not None:
                if path.is_dir():
                    return _events(path, image.time_us)
            elif image.source and path.is_file():
                return decoding.read(path)
        except InputError:
            return None
    return None


def _events(path: Path, time_us: int) -> np.ndarray:
    recording = recordings.open_recording(path)
    stop_ms = -(-time_us // 1000)
    events = recording.events(stop_ms - _WINDOW_MS, stop_ms)
    return drawing.event_frame(events.x, events.y, events.p, (recording.height, recording.width))
