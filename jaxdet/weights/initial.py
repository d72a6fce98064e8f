"""`--init`: the weights that a training starts from."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdet.nn.functional import Variables
from jaxdet.ops import resize
from jaxdet.weights import coco_files, families
from jaxdet.weights.load import check_there, load
from jaxdet.weights.rules import TensorPair, WeightsReport

logger = logging.getLogger(__name__)

_RELEASED = (240, 304, 4)  # height, width and cell of the sensor of GEN1, pixels


def weights(path: str | None, model: Any) -> Callable[[Variables], Variables]:
    """Function fresh weights of a model block -> those at `path`; None: the fresh ones.

    `path` is what `load` takes, or "coco" (see `coco_files`); InputError at once if nothing is there. Parts
    that the file lacks or has in another shape stay fresh and are counted in the log.
    """
    if path is None:
        return lambda fresh: fresh
    file = coco_files.find(model) if path == "coco" else path
    check_there(file)

    def started(fresh: Variables) -> Variables:
        variables, report = load(file, families.of_config(model), fresh, lenient=True)
        variables, latents = resized_latents(variables, report, model)
        changed = _changed(report.num_classes, model)
        logger.info("starting from %s; %s%s%s", file, report.summary(), changed, latents)
        return variables

    return started


def resized_latents(variables: Variables, report: WeightsReport, model: Any) -> tuple[Variables, str]:
    """Weights with the initial latents of an HMNet for another sensor, and a phrase about them.

    They are one vector a cell and the only weights that depend on the size: they are resized bilinearly from
    grid to grid. The file's grid is that of the config stored with it, else of the released models (GEN1). A
    latent of another width, or of a grid that is not known, stays fresh. `report` is changed accordingly.
    """
    if model.name != "hmnet" or not model.get("image_size"):
        return variables, ""
    height, width, window = report.sensor or _RELEASED
    number = len(model.widths)
    grids = zip(
        resize.grids_of((height, width), window, number),
        resize.grids_of(model.image_size, model.get("window", 4), number),
        strict=True,
    )
    backbone, done = dict(variables.params["backbone"]), []
    for i, (old, new) in enumerate(grids, 1):
        path = f"params.backbone.memory{i}.init_latent"
        latent, fresh = report.misfits.get(path), backbone[f"memory{i}"]["init_latent"]
        if latent is None or latent.shape != (1, old[0] * old[1], fresh.shape[-1]):
            continue
        value = resize.cells(np.asarray(latent, np.float32), old, new)
        backbone[f"memory{i}"] = {**backbone[f"memory{i}"], "init_latent": value}
        done.append(f"{old[1]}x{old[0]} to {new[1]}x{new[0]}")
        _take(report, path, value.shape)
    if not done:
        return variables, ""
    line = f"; initial latents resized bilinearly, cells {', '.join(done)}"
    return variables._replace(params={**variables.params, "backbone": backbone}), line


def _take(report: WeightsReport, path: str, shape: tuple[int, ...]) -> None:
    """Count a tensor of another shape as taken."""
    keys = (path, path.removeprefix("params."))
    key = next(key for key, _ in report.unused if key in keys)
    report.unused = [(name, reason) for name, reason in report.unused if name != key]
    report.missing.remove(path)
    report.pairs.append(TensorPair(key, path, shape))


def _changed(num_classes: int | None, model: Any) -> str:
    """A phrase about another number of classes than the model's."""
    if num_classes in (None, model.num_classes):
        return ""
    return f" (of {num_classes} classes, not {model.num_classes}: the last layer begins anew)"
