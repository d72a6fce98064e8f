"""Run a track of the Seasons in Drift challenge: from frames and weights to predictions.pkl.

    python -m jaxdet.reproduce --recipe=configs/seasons_in_drift.py:week --data=data/ltd --weights=weights \\
        --workdir=runs/sid_week [--only=Sep] [--dry_run]

Weights, frames and their numbers are checked before anything is computed; `--dry_run` prints the plan and
everything that is missing. A run that was stopped is resumed. Months with annotations are scored before and
after post-processing.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxdet import class_names, cli, config_files
from jaxdet import config as c
from jaxdet.challenges import recipes, reproduction
from jaxdet.challenges.recipes import Row
from jaxdet.challenges.reproduction import TrackRecipe
from jaxdet.data.images.sets import ImageItem
from jaxdet.errors import InputError
from jaxdet.inference import restore
from jaxdet.inference.images import VIEWS, ImagePredictor, ItemPredictor
from jaxdet.structs import Boxes
from jaxdet.weights.load import load_folder


def _flags(flags: cli.Flags) -> None:
    flags.string(
        "recipe",
        None,
        "NAME:track or FILE.py:track (Python, which runs), such as seasons_in_drift:week",
        required=True,
    )
    flags.string("data", None, "root of LTD, with Test/<month>/frames", required=True)
    flags.string("weights", None, "folder of the weights the recipe names", required=True)
    flags.string("workdir", None, "folder of the run", required=True)
    flags.strings("only", [], "months to process; default: all")
    flags.boolean("dry_run", False, "print the plan and what is missing, compute nothing")
    flags.integer("batch_size", 32, "images at a time")


def _run(flags: cli.Flags) -> None:
    recipe = load_recipe(flags.recipe)
    todo, problems = reproduction.plan(recipe, flags.data, flags.weights, flags.only)
    if flags.dry_run:
        for month in todo:
            print(reproduction.describe(month, flags.workdir))
    if len(problems) > 1:
        for line in problems:
            print(line, file=sys.stderr)
        raise InputError(f"{len(problems)} things are missing or wrong, named above; nothing was computed")
    if problems:
        raise InputError(problems[0])
    if not flags.dry_run:
        path = reproduction.run(todo, flags.workdir, _Loader(flags.batch_size), recipe.month_weights)
        logging.info("%s", path)


def load_recipe(text: str) -> TrackRecipe:
    """Recipe of `FILE.py:track`: rows, frames and weight of each month; InputError for another config."""
    recipe = config_files.load(text, "--recipe")
    missing = [key for key in ("rows", "num_frames", "month_weights") if key not in recipe]
    if missing:
        raise InputError(f"{text}: a config without {missing[0]}, expected a recipe; seasons_in_drift is one")
    return TrackRecipe(tuple(recipe.rows), dict(recipe.num_frames), dict(recipe.month_weights))


class _Loader:
    """Loads the detector of a row of the recipe."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size

    def __call__(self, row: Row, weights: Path):
        # A folder stores its config; the model of a released file is named in the recipe.
        cfg: Any = ConfigDict(load_folder(weights)[1]) if weights.is_dir() else _released_config(row)
        with cfg.unlocked():
            cfg.model.min_score, cfg.model.nms_iou = row.conf, recipes.NMS_IOU
            cfg.data.size, cfg.data.batch_size = row.size, self._batch_size
        _, skeleton, variables = restore.load_model(cfg, str(weights))
        predictor = ItemPredictor(cfg.data, ImagePredictor(skeleton, variables, VIEWS[row.tta or "none"]))

        def detect(paths: Sequence[Path]) -> Iterator[Boxes]:
            items = [ImageItem(path, path.stem, i, None) for i, path in enumerate(paths)]
            for found in predictor.items(items):
                yield found.boxes
            if predictor.num_skipped:
                raise InputError(
                    f"{predictor.num_skipped} frames cannot be decoded, named above; copy them again"
                )

        return detect


def _released_config(row: Row):
    if row.model not in c.YOLOV4_SIZES:
        raise InputError(
            f"recipe row {row.months}: model {row.model!r}; expected {', '.join(c.YOLOV4_SIZES)}"
        )
    cfg: Any = c.base()
    cfg.model = c.yolov4(row.model, len(class_names.LTD))
    stride = 2 << (len(c.YOLOV4_SIZES[row.model]["stages"]) - 1)
    cfg.data = c.yolov4_images(row.size, stride, class_names.LTD, batch_size=1)
    return cfg


main = cli.Command(_flags, _run, __doc__)

if __name__ == "__main__":
    sys.exit(main())
