"""Seasons in Drift, ECCV 2022: the rows of the three tracks as submitted.

    reproduce --recipe=configs/seasons_in_drift.py:<day|week|month> --data=data/ltd --weights=weights \\
        --workdir=runs/sid

A row gives months, their weights (a soup, whose members are in the comment above it), the test settings and
the post-processing: `rule` is "seqnms", Seq-NMS with a minimum score, or "score", the removal of lower scores
only. The IoU of the NMS is 0.5 in all rows; Seq-NMS links from 0.6, suppresses from 0.3 and ends with an NMS
at 0.3.
"""

from jaxdet import config as c
from jaxdet.challenges import submission
from jaxdet.challenges.recipes import Row
from jaxdet.evaluation import months

TRACKS = {
    "day": (
        # e10 + every 10th bicycle frame + all motorcycle frames; epochs 59 69 79 89 99
        Row("Sep", weights="day_p6", model="p6", size=1280, tta=None, conf=0.1, rule="score", min_score=0.1),
        # e5; epochs 29 39 49 59 69 79 89 99
        Row(
            "Jan Mar Apr May Jun Jul Aug",
            weights="day_p7",
            model="p7",
            size=1536,
            tta="flip",
            conf=0.1,
            rule="seqnms",
            min_score=0.7,
        ),
    ),
    "week": (
        # e5; epochs 14 29 54 69 79
        Row(
            "Apr Aug Jan Jul Jun",
            weights="week_p7_a",
            model="p7",
            size=1536,
            tta="flip",
            conf=0.1,
            rule="seqnms",
            min_score=0.6,
        ),
        # e5; epochs 9 14 49 64 69, the best on September
        Row(
            "Sep",
            weights="week_p7_b",
            model="p7",
            size=1536,
            tta=None,
            conf=0.1,
            rule="seqnms",
            min_score=0.6,
        ),
        # e5; epochs 14 29 59 64 74
        Row(
            "Mar May",
            weights="week_p7_c",
            model="p7",
            size=1536,
            tta=None,
            conf=0.6,
            rule="score",
            min_score=0.6,
        ),
    ),
    "month": (
        # e10 + bicycles + motorcycles; epochs 39 49 59 69 79
        Row(
            "Jan",
            weights="month_p6_a",
            model="p6",
            size=1280,
            tta=None,
            conf=0.1,
            rule="seqnms",
            min_score=0.6,
        ),
        # e10; epochs 29 39 49 59 69
        Row(
            "Mar",
            weights="month_p6_b",
            model="p6",
            size=1280,
            tta="flip",
            conf=0.1,
            rule="seqnms",
            min_score=0.5,
        ),
        # e10; epochs 24 39 59 79 84
        Row(
            "Apr Jun May Jul",
            weights="month_p7",
            model="p7",
            size=1536,
            tta="flip",
            conf=0.1,
            rule="seqnms",
            min_score=0.5,
        ),
        Row(
            "Aug", weights="month_p7", model="p7", size=1536, tta=None, conf=0.1, rule="seqnms", min_score=0.5
        ),
        # e15; epochs 59 69 79 89 99
        Row(
            "Sep",
            weights="month_p6_c",
            model="p6",
            size=1280,
            tta=None,
            conf=0.1,
            rule="seqnms",
            min_score=0.6,
        ),
    ),
}


def get_config(arg: str = "day"):
    (track,) = c.parse(arg, TRACKS)
    return c.block(
        rows=TRACKS[track],
        num_frames=submission.NUM_FRAMES,
        # The organisers' weights are unpublished; these are estimated from the published means.
        month_weights=months.ESTIMATED_WEIGHTS,
    )
