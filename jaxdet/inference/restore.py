"""Loading of a detector for inference: its config, its skeleton and its weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxdet.errors import InputError
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.weights import families
from jaxdet.weights.load import load, load_folder


def load_model(
    cfg: Any, weights: str, override: Callable[[Any], Any] = lambda cfg: cfg
) -> tuple[Any, Skeleton, Variables]:
    """(config, skeleton, variables) of the model of `cfg` with the weights of a file or folder.

    If `cfg` is None, the config is the one stored with the weights; `override` changes it before the model is
    built. Raises InputError if no config is known, or if the weights do not fit it.
    """
    if cfg is None:
        if Path(weights).is_file():
            raise InputError(f"{weights} holds tensors but no config of their model; give --config")
        cfg = override(ConfigDict(load_folder(weights)[1]))
    skeleton, target = functional.abstract(lambda: from_config.build(cfg, 0))
    variables, _ = load(weights, families.of_config(cfg.model), target)
    return cfg, skeleton, variables
