"""A detector put together for use: its config, its skeleton and its weights."""

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
    """(config, skeleton, weights) of the model of `cfg`, or of the config stored with the weights if that is None.

    `override` changes the stored config before the model is built.
    Raises InputError if the weights do not fit the config.
    """
    if cfg is None:
        if Path(weights).is_file():
            raise InputError(f"{weights} tells tensors and not which model they are of; give --config")
        cfg = override(ConfigDict(load_folder(weights)[1]))
    skeleton, target = functional.abstract(lambda: from_config.build(cfg, 0))
    variables, _ = load(weights, families.of_config(cfg.model), target)
    return cfg, skeleton, variables
