import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdet.nn import prepared
from jaxdet.nn.conv import Conv, Linear
from jaxdet.nn.functional import merge, split
from jaxdet.nn.norm import BatchNorm


class _Layers(nnx.Module):
    def __init__(self, dtype, *, rngs):
        self.strided = nnx.List([Conv(4, 6, 3, 2, use_bias=True, rngs=rngs, dtype=dtype)])
        self.plain = Conv(6, 6, 3, rngs=rngs, dtype=dtype)
        self.depthwise = Conv(6, 6, 3, groups=6, rngs=rngs, dtype=dtype)
        self.pointwise = Conv(6, 5, 1, use_bias=True, rngs=rngs, dtype=dtype)
        self.linear = Linear(5, 3, rngs=rngs, dtype=dtype)

    def __call__(self, x):
        return self.linear(self.pointwise(self.depthwise(self.plain(self.strided[0](x)))))


def test_layouts_change_no_result_beyond_rounding():
    skeleton, variables = split(_Layers(None, rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 4))
    after, weights = prepared.output_major(skeleton, variables)
    assert weights.params["strided"]["0"]["kernel"].shape == (6, 3, 3, 4)
    assert weights.params["plain"]["kernel"].shape == (6, 3, 3, 6)
    assert weights.params["depthwise"]["kernel"].shape == (6, 3, 3, 1)
    assert weights.params["pointwise"]["kernel"].shape == (1, 1, 6, 5)
    # The same 54 products a position, in another order: some ulp of float32.
    np.testing.assert_allclose(merge(after, weights)(x), merge(skeleton, variables)(x), rtol=2e-5, atol=2e-6)


def test_weights_cast_ahead_change_no_bit():
    skeleton, variables = split(_Layers(jnp.bfloat16, rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 4))
    after, weights = prepared.in_compute_type(skeleton, variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(weights.params)} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables.params)} == {jnp.dtype(jnp.float32)}
    found, expected = merge(after, weights)(x), merge(skeleton, variables)(x)
    np.testing.assert_array_equal(found.astype(jnp.float32), expected.astype(jnp.float32))


def test_layers_that_compute_in_the_type_of_their_input_are_cast_to_it():
    skeleton, variables = split(_Layers(None, rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 4)).astype(jnp.bfloat16)
    after, weights = prepared.in_compute_type(skeleton, variables, jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(weights.params)} == {jnp.dtype(jnp.bfloat16)}
    found, expected = merge(after, weights)(x), merge(skeleton, variables)(x)
    np.testing.assert_array_equal(found.astype(jnp.float32), expected.astype(jnp.float32))
    same = prepared.in_compute_type(skeleton, variables)[1]
    jax.tree.map(np.testing.assert_array_equal, same.params, variables.params)


def test_known_norms_change_no_result_beyond_rounding():
    norm = BatchNorm(5)
    for number, leaf in enumerate((norm.scale, norm.bias, norm.mean, norm.var)):
        leaf.set_value(jax.random.uniform(jax.random.key(number), (5,), minval=0.5))
    x = jax.random.normal(jax.random.key(9), (2, 3, 4, 5))
    # The order of three products of each value: some ulp of float32.
    np.testing.assert_allclose(prepared.ScaleAndShift(norm)(x), norm(x), rtol=2e-6, atol=1e-6)
