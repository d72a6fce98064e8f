"""Batch statistics measured anew, because averaged statistics do not fit averaged weights."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Tree, Variables
from jaxdet.nn.norm import BatchNorm
from jaxdet.structs import Batch


def reestimate(skeleton: Skeleton, variables: Variables, batches: Iterable[Batch], carry: Any) -> Variables:
    """The same weights with means and variances that are those of `batches`, every batch counting alike.

    `carry` is that of lanes before their first step; it is handed from batch to batch.
    """

    @jax.jit
    def statistics(variables, batch, carry):
        model = functional.merge(skeleton, variables)
        for _, module in nnx.iter_modules(model):
            if isinstance(module, BatchNorm):
                module.momentum = 1.0  # the statistics after the batch are the batch's
        _, _, carry = model.loss(batch, carry)
        return functional.batch_stats(model), carry

    total, count = None, 0
    for batch in batches:
        found, carry = statistics(variables, batch, carry)
        wide = jax.tree.map(lambda a: np.asarray(a, np.float64), found)
        total = wide if total is None else jax.tree.map(np.add, total, wide)
        count += 1
    return (
        variables
        if total is None
        else Variables(variables.params, _mean(total, variables.batch_stats, count))
    )


def _mean(total: Tree, like: Tree, count: int) -> Tree:
    def mean(summed, old):
        whole = np.issubdtype(np.asarray(old).dtype, np.integer)
        return np.asarray(count if whole else summed / count, np.asarray(old).dtype)

    return jax.tree.map(mean, total, like)
