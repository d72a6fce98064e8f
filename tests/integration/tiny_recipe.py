"""A track of a challenge with one small detector and a few frames a month."""

from jaxdet import config as c
from jaxdet.challenges.recipes import Row
from jaxdet.evaluation import months


def get_config(arg: str = "day"):
    c.parse(arg, ("day",))
    row = Row(" ".join(months.MONTHS), "tiny", "p5", 64, "flip", 0.01, "seqnms", 0.01)
    return c.block(
        rows=(row,),
        num_frames=dict.fromkeys(months.MONTHS, 6),
        month_weights=months.ESTIMATED_WEIGHTS,
    )
