"""HMNet at another size than that of its training."""

import logging
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxdet.errors import InputError
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.ops import resize

logger = logging.getLogger(__name__)


def resized(cfg: Any, variables: Variables, size: tuple[int, int]) -> tuple[Any, Skeleton, Variables]:
    """Config, skeleton and weights of an HMNet for a sensor of `size` (height, width).

    All weights are independent of the size but for the initial latents, one vector a cell. The released code
    has no rule for them: they are resized bilinearly from grid to grid, which is logged. Raises InputError
    for another family.
    """
    if cfg.model.name != "hmnet":
        raise InputError(f"a size of the model is for HMNet; {cfg.model.name} takes --size")
    own = from_config.geometry(cfg)
    padded = tuple(cfg.model.get("image_size", own.size))
    changed: Any = ConfigDict(cfg.to_dict())
    changed.data.height, changed.data.width = size
    changed.model.image_size = size
    number = len(cfg.model.widths)
    grids = resize.grids_of(padded, own.window, number), resize.grids_of(size, own.window, number)
    backbone = dict(variables.params["backbone"])
    for i, (old, new) in enumerate(zip(*grids, strict=True), 1):
        latent = np.asarray(backbone[f"memory{i}"]["init_latent"])
        flat = resize.cells(latent, old, new)
        backbone[f"memory{i}"] = {**backbone[f"memory{i}"], "init_latent": flat}
    (rows, columns), (new_rows, new_columns) = grids[0][0], grids[1][0]
    logger.info(
        "the model runs at %dx%d pixels instead of %dx%d: its initial latents are resized bilinearly from "
        "%dx%d to %dx%d cells; the released code has no rule for that",
        *(size[1], size[0], own.width, own.height, columns, rows, new_columns, new_rows),
    )
    skeleton, _ = functional.abstract(lambda: from_config.build(changed, 0))
    return changed, skeleton, variables._replace(params={**variables.params, "backbone": backbone})
