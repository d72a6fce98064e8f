import jax
import numpy as np
from flax import nnx

from jaxdet.inference import folded
from jaxdet.models.heads import HeadLevel
from jaxdet.models.merged_head import MergedLevel
from jaxdet.nn.fold import fold
from jaxdet.nn.functional import merge, split


def test_gives_the_outputs_of_the_level():
    level = HeadLevel(8, 16, 3, True, False, None, rngs=nnx.Rngs(0))
    for path, leaf in nnx.iter_graph(level):
        if isinstance(leaf, nnx.Param) and path[-1] == "bias":
            leaf.set_value(jax.random.normal(jax.random.key(len(path)), leaf[...].shape))
    x = jax.random.normal(jax.random.key(0), (1, 7, 6, 8))
    expected = level(x)
    plain = merge(*fold(*split(level)))
    folded._merge_branches(plain)
    found = MergedLevel(plain)(x)
    # Zeros are added to sums of 16 and 9 x 16 products, whose order may change: some ulp of float32.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
