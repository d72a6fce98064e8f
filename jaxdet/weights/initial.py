"""`--init`: the weights that a training starts from."""

import logging
from collections.abc import Callable
from typing import Any

from jaxdet.nn.functional import Variables
from jaxdet.weights import coco_files, families
from jaxdet.weights.load import load

logger = logging.getLogger(__name__)


def weights(path: str | None, model: Any) -> Callable[[Variables], Variables]:
    """Function fresh weights of a model block -> those at `path`; None: the fresh ones.

    `path` is what `load` takes, or "coco" (see `coco_files`). Parts that the file lacks or has in another
    shape stay fresh and are counted in the log.
    """

    def started(fresh: Variables) -> Variables:
        if path is None:
            return fresh
        file = coco_files.find(model) if path == "coco" else path
        variables, report = load(file, families.of_config(model), fresh, lenient=True)
        logger.info("starting from %s; %s%s", file, report.summary(), _changed(report.num_classes, model))
        return variables

    return started


def _changed(num_classes: int | None, model: Any) -> str:
    """A phrase about another number of classes than the model's."""
    if num_classes in (None, model.num_classes):
        return ""
    return f" (of {num_classes} classes, not {model.num_classes}: the last layer begins anew)"
