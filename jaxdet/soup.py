"""Average the weights of several checkpoints into one set: a model soup.

    python -m jaxdet.soup --run=runs/day_p6 --steps=6000,7000,8000 --out=weights/day_p6
    python -m jaxdet.soup --config=configs/ltd_yolov4.py:p6 --inputs=last_059.pt,runs/b --out=weights/soup
    python -m jaxdet.soup --run=runs/day_p6 --method=greedy --split=val/images --report=Sep/images --out=soup

Ingredients are checkpoints of a run (all it kept, or --steps), runs, weights folders and released .pt or .pth
files; all must be of one model. `uniform` is the mean of all, with batch statistics as released. `greedy`
measures each on the held-out --split of the data set, and takes them from the best on while the soup does not
get worse. --reestimate=N measures batch statistics anew on N training batches. What was kept, and every
score, is printed and written to OUT.json. A score by which ingredients were chosen is biased upwards:
--report measures the soup, the best single ingredient and the uniform soup on a split that had no part in the
choice.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxdet import cli, data
from jaxdet.errors import InputError
from jaxdet.evaluation import splits
from jaxdet.files import atomic
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.training import batch_statistics
from jaxdet.training import setup as runs
from jaxdet.weights import checkpoint, families, soup, stored_config
from jaxdet.weights.load import load, load_folder, run_of

logger = logging.getLogger(__name__)


def _flags(flags: cli.Flags) -> None:
    flags.config_file("config of model and data; default: that of the ingredients", stored=True)
    flags.string("run", None, "take checkpoints of this run")
    flags.strings("steps", [], "optimiser steps of --run's checkpoints; default: all that it kept")
    flags.strings("inputs", [], "further ingredients: runs, weights folders, .pt or .pth files")
    flags.choice(
        "method", "uniform", ["uniform", "greedy"], "the mean of all, or of those that help on --split"
    )
    flags.string(
        "split", None, "held-out split to score on; default for greedy: the config's validation split"
    )
    flags.string(
        "report", None, "further split: AP there of the soup, the best single ingredient and the mean of all"
    )
    flags.integer("reestimate", 0, "measure batch statistics anew on this many training batches")
    flags.string("out", None, "folder for the weights; the report lies beside it as OUT.json", required=True)


def _run(flags: cli.Flags) -> None:
    paths = _ingredients(flags)
    cfg = flags.config if flags.config is not None else flags.override(_common_config(paths))
    skeleton, target = functional.abstract(lambda: from_config.build(cfg, 0))
    family = families.of_config(cfg.model)
    loaders = {path: partial(_load, path, family, target) for path in paths}
    split = flags.split or (cfg.data.validation_split if flags.method == "greedy" else None)
    score = _scorer(cfg, skeleton, split) if split else None
    unseen = splits.measure(cfg.data, skeleton, flags.report) if flags.report else None
    weights, report = _averaged(flags.method, loaders, score)
    if flags.reestimate:
        weights = _reestimated(cfg, skeleton, weights, flags.reestimate)
        report["reestimated_on_batches"] = flags.reestimate
        report["score"] = score(weights) if score else None
    report = {"method": flags.method, "split": split, **report}
    if unseen is not None:
        baselines = _baselines(loaders, report)
        report["report"] = {"split": flags.report, **_measured(unseen, {"soup": lambda: weights} | baselines)}
    checkpoint.save_weights(flags.out, weights, runs.as_json(cfg))
    with atomic(Path(f"{flags.out}.json")) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
    print(_table(report))
    logger.info("%s written", flags.out)


def _ingredients(flags) -> list[str]:
    """Paths of all ingredients, in the order they are added."""
    paths = list(flags.inputs)
    if flags.run:
        folder = Path(flags.run) / "checkpoints"
        kept = sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())
        wanted = [int(s) if s.isdigit() else -1 for s in flags.steps] or kept
        absent = [word for step, word in zip(wanted, flags.steps) if step not in kept]
        if absent:
            raise InputError(
                f"{flags.run} has no checkpoint {absent[0]}; it has {', '.join(map(str, kept)) or 'none'}"
            )
        paths = [str(folder / str(step)) for step in wanted] + paths
    elif flags.steps:
        raise InputError("--steps without --run; give the run whose checkpoints they are as --run")
    if not paths:
        raise InputError("no ingredients: give --run, --inputs or both")
    twice = [path for i, path in enumerate(paths) if path in paths[:i]]
    if twice:
        raise InputError(f"{twice[0]} is given twice; a soup counts every ingredient once")
    return paths


def _common_config(paths: list[str]) -> Any:
    """The config that all ingredients were trained with, as far as the model goes."""
    bare = [path for path in paths if Path(path).is_file()]
    if bare:
        raise InputError(f"{bare[0]} holds tensors and does not say of which model; give --config")
    configs = [ConfigDict(load_folder(path)[1]) for path in paths]
    for path, other in zip(paths, configs):
        if runs.as_json(other.model) != runs.as_json(configs[0].model):
            raise InputError(
                f"{path} is of another model than {paths[0]}; give --config if they fit all the same"
            )
    return configs[0]


def _load(path: str, family, target: Variables) -> Variables:
    return load(path, family, target)[0]


def _scorer(cfg, skeleton: Skeleton, split: str) -> Callable[[Variables], float]:
    measure = splits.measure(cfg.data, skeleton, split)
    return lambda weights: measure(weights).fitness


def _averaged(
    method: str, loaders: Mapping[str, soup.Load], score: soup.Score | None
) -> tuple[Variables, dict[str, Any]]:
    """The soup, and what is reported of it."""
    if method == "greedy":
        assert score is not None
        found = soup.greedy(loaders, score)
        rows = [tasting._asdict() for tasting in found.tried]
        rows = [{**row, "epoch": _epoch(row["name"])} for row in rows]
        return found.weights, {"score": found.score, "ingredients": rows}
    weights = soup.uniform((name, load()) for name, load in loaders.items())
    scores = {name: score(load()) if score else None for name, load in loaders.items()}
    rows = [{"name": n, "score": s, "kept": True, "epoch": _epoch(n)} for n, s in scores.items()]
    return weights, {"score": score(weights) if score else None, "ingredients": rows}


def _epoch(path: str) -> float | None:
    """Epochs that a checkpoint of a run ends; None for other weights."""
    run, step = run_of(path) or (None, None)
    config = runs.read_config(run) if run is not None and step is not None else None
    return None if config is None or step is None else stored_config.epoch_of(config, step)


def _baselines(loaders: Mapping[str, soup.Load], report: Mapping[str, Any]) -> dict[str, soup.Load]:
    """Baselines of a soup: the best single ingredient, if all were scored, and the mean of all."""
    rows = [row for row in report["ingredients"] if row["score"] is not None]
    baselines: dict[str, soup.Load] = {}
    if rows:
        baselines["best single"] = loaders[max(rows, key=lambda row: row["score"])["name"]]
    if report["method"] != "uniform":
        baselines["uniform soup"] = lambda: soup.uniform((name, load()) for name, load in loaders.items())
    return baselines


def _measured(measure: splits.Measure, contestants: Mapping[str, soup.Load]) -> dict[str, dict[str, float]]:
    """AP and AP50 of each."""
    found = {name: measure(load()).metrics.statistics for name, load in contestants.items()}
    return {name: {"AP": float(values[0]), "AP50": float(values[1])} for name, values in found.items()}


def _reestimated(cfg, skeleton: Skeleton, weights: Variables, number: int) -> Variables:
    batches = data.open(cfg.data, cfg.data.train_split)
    carry = functional.merge(skeleton, weights).init_carry(cfg.data.batch_size)
    try:
        return batch_statistics.reestimate(skeleton, weights, islice(batches, number), carry)
    finally:
        batches.close()


def _table(report: Mapping[str, Any]) -> str:
    """The report as lines: an ingredient each, then the soup."""
    rows = report["ingredients"]
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'ingredient':<{width}}  epoch   score   with it  kept"]
    for row in rows:
        epoch = "-" if row["epoch"] is None else f"{row['epoch']:.4g}"
        figures = f"{_figure(row['score'])}  {_figure(row.get('score_in_soup'))}"
        lines.append(f"{row['name']:<{width}}  {epoch:>5}  {figures}   {'yes' if row['kept'] else 'no'}")
    number = sum(row["kept"] for row in rows)
    lines.append(f"{report['method']} soup of {number}: {_figure(report['score']).strip()}")
    unseen = dict(report.get("report", {}))
    if unseen:
        lines.append(f"on {unseen.pop('split')}:")
    lines += [
        f"  {name:<12}  AP {values['AP']:.4f}  AP50 {values['AP50']:.4f}" for name, values in unseen.items()
    ]
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "     -" if value is None else f"{value:.4f}"


main = cli.Command(_flags, _run, __doc__)

if __name__ == "__main__":
    sys.exit(main())
