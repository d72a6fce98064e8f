"""Recipe of a challenge track: a table of weights, test settings and post-processing by month."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxdet.errors import InputError
from jaxdet.evaluation import months
from jaxdet.postprocess import seqnms
from jaxdet.structs import Boxes

NMS_IOU = 0.5


class Row(NamedTuple):
    """Settings of one or several months."""

    months: str  # names of months, separated by spaces
    weights: str  # name of a folder, .pt or .pth file in --weights
    model: str  # size of the model
    size: int  # longer side of the network's input, pixels
    tta: str | None  # test-time augmentation: "flip", or None for the image alone
    conf: float  # the detector reports boxes above this score
    rule: str  # post-processing: "seqnms", or "score", which only drops boxes not above min_score
    min_score: float

    def apply(self, frames: Sequence[Boxes]) -> list[Boxes]:
        """The frames after the post-processing of this row."""
        if self.rule == "score":
            return seqnms.drop_scores_below(frames, self.min_score)
        return seqnms.rescore(frames, seqnms.SeqNMSOptions(min_score=self.min_score))

    def __str__(self) -> str:
        view = f", {self.tta}" if self.tta else ""
        model = f"{self.weights}, {self.model} at {self.size}{view}"
        return f"{model}, conf {self.conf}, {self.rule} {self.min_score}"


def by_month(rows: Sequence[Row], wanted: Sequence[str] = months.MONTHS) -> dict[str, Row]:
    """The row of each wanted month, in calendar order.

    Raises InputError unless every month has exactly one row, with known settings.
    """
    found: dict[str, Row] = {}
    for row in rows:
        if row.rule not in ("seqnms", "score") or row.tta not in (None, "flip"):
            raise InputError(
                f"recipe row {row.months}: rule {row.rule}, tta {row.tta}; "
                "expected rule seqnms or score, and tta flip or None"
            )
        for month in row.months.split():
            if month not in months.MONTHS:
                raise InputError(f"recipe: month {month!r}; expected one of {', '.join(months.MONTHS)}")
            if month in found:
                raise InputError(f"recipe: {month} is in two rows; expected each month once")
            found[month] = row
    missing = [month for month in months.MONTHS if month not in found]
    if missing:
        raise InputError(f"recipe: no row for {', '.join(missing)}; expected each month once")
    unknown = [month for month in wanted if month not in found]
    if unknown:
        raise InputError(f"month {unknown[0]!r}; expected one of {', '.join(months.MONTHS)}")
    return {month: found[month] for month in months.MONTHS if month in wanted}


def check_counts(num_frames: Mapping[str, int]) -> None:
    """Raise InputError unless every month has a positive number of frames."""
    for month in months.MONTHS:
        if num_frames.get(month, 0) <= 0:
            raise InputError(f"recipe: {num_frames.get(month)} frames in {month}; expected a positive number")
