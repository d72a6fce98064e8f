"""Result of an evaluation: the 12 COCO numbers, values per class, and precision-recall curves."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxdet.structs import ReadReport

MAX_DETECTIONS = (1, 10, 100)
AREAS = ("all", "small", "medium", "large")
# (name, precision or recall, IoU threshold or None for the mean, area, detections per image and class)
STATISTICS = (
    ("AP", "AP", None, "all", 100),
    ("AP50", "AP", 0.5, "all", 100),
    ("AP75", "AP", 0.75, "all", 100),
    ("AP_small", "AP", None, "small", 100),
    ("AP_medium", "AP", None, "medium", 100),
    ("AP_large", "AP", None, "large", 100),
    ("AR_1", "AR", None, "all", 1),
    ("AR_10", "AR", None, "all", 10),
    ("AR_100", "AR", None, "all", 100),
    ("AR_small", "AR", None, "small", 100),
    ("AR_medium", "AR", None, "medium", 100),
    ("AR_large", "AR", None, "large", 100),
)
THRESHOLDS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True, eq=False)
class Metrics:
    """COCO metrics of C classes; -1 where there was no ground truth."""

    statistics: np.ndarray  # float64 [12]          in the order of STATISTICS
    class_names: tuple[str, ...]
    ap_per_class: np.ndarray  # float64 [C]
    ap50_per_class: np.ndarray  # float64 [C]
    precision: np.ndarray  # float64 [10, 101, C, 4, 3] IoU, recall, class, area, detections
    recall: np.ndarray  # float64 [10, C, 4, 3]
    num_images: int
    num_truth: int
    num_detections: int
    report: ReadReport = field(default_factory=ReadReport)  # what was left out, and why
    protocol_line: str = ""  # protocol of recordings, filters, classes, label rate, labels used and left out
    matched: Any = None  # `evaluator.Matched`: the boxes that were compared

    @property
    def ap(self) -> float:
        """Mean average precision over IoU 0.50 to 0.95 and the classes."""
        return float(self.statistics[0])

    @property
    def ap50(self) -> float:
        """Mean average precision at IoU 0.5."""
        return float(self.statistics[1])

    @property
    def per_class(self) -> dict[str, dict[str, float]]:
        """AP and AP50 of each class, by class name."""
        rows = zip(self.class_names, self.ap_per_class, self.ap50_per_class, strict=True)
        return {name: {"AP": float(ap), "AP50": float(ap50)} for name, ap, ap50 in rows}

    def table(self) -> str:
        """Lines with the 12 numbers in the layout of pycocotools, then AP and AP50 of each labelled class."""
        titles = {"AP": "Average Precision", "AR": "Average Recall"}
        lines = []
        for (_, kind, iou, area, limit), value in zip(STATISTICS, self.statistics):
            threshold = "0.50:0.95" if iou is None else f"{iou:0.2f}"
            lines.append(
                f" {titles[kind]:<18} ({kind}) @[ IoU={threshold:<9} | area={area:>6s} | "
                f"maxDets={limit:>3d} ] = {value:0.3f}"
            )
        labelled = {name: values for name, values in self.per_class.items() if values["AP"] >= 0}
        width = max(map(len, labelled), default=0)
        for name, values in labelled.items():
            lines.append(f" {name:<{width}}  AP {values['AP']:0.3f}  AP50 {values['AP50']:0.3f}")
        if len(labelled) < len(self.class_names):
            lines.append(f" {len(self.class_names) - len(labelled)} classes without labels")
        return "\n".join(lines)

    def curves(self) -> dict[str, Any]:
        """Arguments of `viewing.plots.precision_recall`, for boxes of all areas and 100 detections."""
        return {
            "class_names": self.class_names,
            "precision": self.precision[..., 0, 2],
            "ap": self.ap,
            "ap_per_class": self.ap_per_class,
            "ap50_per_class": self.ap50_per_class,
        }

    def as_json(self) -> dict:
        """The numbers by name, as a dictionary for a JSON file."""
        return {
            "statistics": {row[0]: float(value) for row, value in zip(STATISTICS, self.statistics)},
            "classes": self.per_class,
            "num_images": self.num_images,
            "num_truth": self.num_truth,
            "num_detections": self.num_detections,
            "protocol": self.protocol_line,
            "left_out": dict(self.report.counts),
            "converted": dict(self.report.notes),
        }
