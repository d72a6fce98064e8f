"""Score of LTDv2's board: AP50 over all frames and by month, CoV of the months, and their balance.

AP50 is COCO's, with the 100 best boxes of an image and class, averaged over the classes that are labelled.
CoV is the standard deviation of the eight monthly values, with 7 in the denominator, by their mean. Balance
is (1 - CoV) times AP50 over all frames, which also has the frames of other months.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdet import class_names
from jaxdet.data.datasets import ltdv2
from jaxdet.detections import files
from jaxdet.errors import InputError
from jaxdet.evaluation import coco
from jaxdet.evaluation.evaluator import evaluate
from jaxdet.evaluation.metrics import Metrics
from jaxdet.formats import BoxFile
from jaxdet.formats import coco as coco_files
from jaxdet.formats import ltdv2 as submissions
from jaxdet.formats.text import read_json
from jaxdet.structs import Boxes, ReadReport

MONTHS = tuple(ltdv2.INTERVALS.values())


class Score(NamedTuple):
    """The numbers of the board."""

    map50: float
    months: Mapping[str, float]  # AP50 of each of the eight
    cov: float | None  # None where every month is 0
    balance: float

    def __str__(self) -> str:
        cov = "undefined" if self.cov is None else f"{self.cov:.6f}"
        months = " ".join(f"{month} {value:.4f}" for month, value in self.months.items())
        return f"mAP50 {self.map50:.4f}, CoV {cov}, balance {self.balance:.4f}: {months}"

    def as_json(self) -> dict[str, Any]:
        """The numbers by name."""
        return {**self._asdict(), "months": dict(self.months)}


def coefficient(values: Mapping[str, float]) -> float | None:
    """CoV of monthly values; None if their mean is 0. InputError unless all eight months are given."""
    if set(values) != set(MONTHS):
        missing = [month for month in MONTHS if month not in values]
        raise InputError(
            f"{len(values)} months; the score needs labelled frames of all eight, missing are "
            f"{', '.join(missing)}"
        )
    monthly = np.array(list(values.values()), np.float64)
    return float(monthly.std(ddof=1) / monthly.mean()) if monthly.mean() else None


def balance(map50: float, cov: float | None) -> float:
    """(1 - CoV) * AP50; 0 where the CoV is undefined, as every AP50 is 0 then."""
    return 0.0 if cov is None else (1 - cov) * map50


def score(metrics: Metrics, backend: str = "pycocotools") -> Score:
    """Score of an evaluation of frames whose ids are uids of LTDv2. InputError for other images."""
    matched = metrics.matched
    month_of = []
    for image in matched.images:
        if image.image_id is None or image.time_us is not None:
            raise InputError(
                f"{image.source}: an image without an id; the score of LTDv2 needs COCO annotations whose "
                "image ids are uids"
            )
        month_of.append(ltdv2.interval_of(image.image_id))
    values = {}
    for month in MONTHS:
        rows = np.flatnonzero([of == month for of in month_of])
        if len(rows):
            truth, found = (coco.of_images(table, rows) for table in (matched.truth, matched.found))
            ap50 = coco.average_precision(truth, found, len(rows), metrics.class_names, backend).ap50
            values |= {month: ap50} if ap50 >= 0 else {}
    cov = coefficient(values)
    return Score(metrics.ap50, values, cov, balance(metrics.ap50, cov))


def of_files(
    detections: str | os.PathLike, annotations: str | os.PathLike, backend: str = "pycocotools"
) -> Metrics:
    """Metrics of a submission, or of boxes of any format, against COCO annotations of LTDv2."""
    known = ltdv2.read_annotations(annotations)
    found = read_detections(detections, known)
    report = ReadReport()
    for part in (known.report, found.report):
        report.merge(part)
    return evaluate(found.frames, known.frames, "coco", class_names.LTDV2, backend, report)


def read_detections(path: str | os.PathLike, known: coco_files.Annotations | None = None) -> BoxFile:
    """Boxes of a submission or of a file of any format, with the classes of LTDv2; a human is a person."""
    if Path(path).suffix.lower() == ".json" and isinstance(read_json(path, "boxes"), dict):
        return submissions.read(path)
    found = files.read(path, known)
    return found._replace(frames=[_renamed(boxes) for boxes in found.frames])


def _renamed(boxes: Boxes) -> Boxes:
    names = class_names.LTDV2 if boxes.class_names == class_names.LTD else boxes.class_names
    return replace(boxes, class_names=names)
