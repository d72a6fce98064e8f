import jax
import numpy as np
import pytest
from flax import nnx

from jaxdet.models.merged_csp import MERGED
from jaxdet.models.yolox import CSPLayer
from jaxdet.nn.csp import SPPCSP, BottleneckCSP
from jaxdet.nn.fold import fold
from jaxdet.nn.functional import merge, split

BLOCKS = {
    CSPLayer: lambda rngs: CSPLayer(6, 8, 2, False, True, rngs=rngs),
    BottleneckCSP: lambda rngs: BottleneckCSP(6, 8, 2, rngs=rngs),
    SPPCSP: lambda rngs: SPPCSP(6, 4, rngs=rngs),
}


@pytest.mark.parametrize("kind", MERGED, ids=lambda kind: kind.__name__)
def test_gives_the_outputs_of_the_block(kind):
    block = BLOCKS[kind](nnx.Rngs(0))
    for path, leaf in nnx.iter_graph(block):
        if isinstance(leaf, nnx.Param | nnx.BatchStat) and path[-1] != "kernel":
            leaf.set_value(0.5 + jax.random.uniform(jax.random.key(len(path)), leaf[...].shape))
    plain = merge(*fold(*split(block)))
    x = jax.random.normal(jax.random.key(0), (1, 5, 6, 6))
    expected, found = plain(x), MERGED[kind](plain)(x)
    # Sums of 6 products, whose order may change: some ulp of float32.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.ptp(expected) > 0.1
