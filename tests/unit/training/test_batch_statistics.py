from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet.nn import functional
from jaxdet.nn.functional import Variables
from jaxdet.nn.norm import BatchNorm
from jaxdet.training.batch_statistics import reestimate


class _Batch(NamedTuple):
    x: np.ndarray


class _Model(nnx.Module):
    def __init__(self):
        self.norm = BatchNorm(3)

    def loss(self, batch, carry):
        return self.norm(batch.x + carry, True).sum(), {}, carry + 1.0


def test_statistics_become_the_mean_of_those_of_the_batches_whatever_they_were():
    rng = np.random.default_rng(0)
    batches = [_Batch(rng.normal(2, 3, (5, 4, 3)).astype(np.float32)) for _ in range(4)]
    skeleton, variables = functional.split(_Model())
    spoilt = Variables(
        variables.params, {"norm": {**variables.batch_stats["norm"], "mean": jnp.full(3, 99.0)}}
    )
    found = reestimate(skeleton, spoilt, batches, jnp.zeros(()))
    flat = np.stack([b.x.astype(np.float64).reshape(-1, 3) + i for i, b in enumerate(batches)])
    # Float32 statistics of values about 5: rounding of about 1e-6.
    assert found.batch_stats["norm"]["mean"] == pytest.approx(flat.mean(1).mean(0), rel=1e-5)
    assert found.batch_stats["norm"]["var"] == pytest.approx(flat.var(1, ddof=1).mean(0), rel=1e-5)
    assert found.batch_stats["norm"]["num_batches_tracked"] == 4
    assert found.params is spoilt.params
