"""A detector put together for use: its skeleton and its weights, from its config."""

import os
from typing import Any

from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.weights import families
from jaxdet.weights.load import load


def load_model(cfg: Any, weights: str | os.PathLike) -> tuple[Any, Skeleton, Variables]:
    """Config, skeleton and weights of the model of `cfg`. InputError if the weights do not fit it."""
    skeleton, target = functional.abstract(lambda: from_config.build(cfg, 0))
    variables, _ = load(weights, families.of_config(cfg.model), target)
    return cfg, skeleton, variables
