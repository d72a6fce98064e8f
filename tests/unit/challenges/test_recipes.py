"""The recipe of the three tracks, against the published table."""

import importlib.util
from pathlib import Path

import pytest

from jaxdet.challenges import recipes
from jaxdet.evaluation import months

# month: (model, size, flipped view, threshold of the detector, post-processing, minimum score)
PUBLISHED = {
    "day": {
        **dict.fromkeys(
            ["Jan", "Mar", "Apr", "May", "Jun", "Jul", "Aug"], ("p7", 1536, "flip", 0.1, "seqnms", 0.7)
        ),
        "Sep": ("p6", 1280, None, 0.1, "score", 0.1),
    },
    "week": {
        **dict.fromkeys(["Apr", "Aug", "Jan", "Jul", "Jun"], ("p7", 1536, "flip", 0.1, "seqnms", 0.6)),
        **dict.fromkeys(["Mar", "May"], ("p7", 1536, None, 0.6, "score", 0.6)),
        "Sep": ("p7", 1536, None, 0.1, "seqnms", 0.6),
    },
    "month": {
        "Jan": ("p6", 1280, None, 0.1, "seqnms", 0.6),
        "Mar": ("p6", 1280, "flip", 0.1, "seqnms", 0.5),
        **dict.fromkeys(["Apr", "Jun", "May", "Jul"], ("p7", 1536, "flip", 0.1, "seqnms", 0.5)),
        "Aug": ("p7", 1536, None, 0.1, "seqnms", 0.5),
        "Sep": ("p6", 1280, None, 0.1, "seqnms", 0.6),
    },
}


def _module():
    path = Path(__file__).parents[3] / "configs" / "seasons_in_drift.py"
    spec = importlib.util.spec_from_file_location("seasons_in_drift", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("track", PUBLISHED)
def test_each_month_is_treated_as_published(track):
    config = _module().get_config(track)
    found = recipes.by_month(config.rows)
    assert list(found) == list(months.MONTHS)
    for month, row in found.items():
        settings = (row.model, row.size, row.tta, row.conf, row.rule, row.min_score)
        assert settings == PUBLISHED[track][month]
    assert sum(config.num_frames.values()) == 368_910
    months.check_weights(dict(config.month_weights))


def test_months_of_one_weights_file_agree_on_the_model():
    for rows in _module().TRACKS.values():
        models = {(row.weights, row.model) for row in rows}
        assert len(models) == len({name for name, _ in models})
