"""Primitives of JAX through ONNX Runtime, one small program each."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx_graphs
import pytest
from jax import lax

from jaxdet.errors import InputError
from jaxdet.exporting import convert, graph
from jaxdet.nn import csp
from jaxdet.ops import attention, resize


def through(function, *arrays):
    """Outputs of a function exported and run by ONNX Runtime, and the operators of its nodes."""
    made = graph.Graph()
    names = [f"x{i}" for i in range(len(arrays))]
    inputs = [made.value(n, a.shape, a.dtype) for n, a in zip(names, arrays)]
    results = convert.convert(made, jax.make_jaxpr(function)(*arrays), inputs)
    outputs = {made.node("Identity", [made.arranged(v)]): (v.dtype, v.shape) for v in results}
    data = onnx_graphs.model(made, {n: (a.dtype, a.shape) for n, a in zip(names, arrays)}, outputs)
    found = onnx_graphs.session(data).run(None, dict(zip(names, arrays)))
    return found, [node.op_type for node in made.nodes]


def floats(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


IMAGE = floats(1, 6, 8, 4)
KERNEL = floats(3, 3, 4, 8, seed=1)
NUMBERS = np.array([-7, -4, -1, 0, 3, 4, 9], np.int32)
INDEX = np.array([[2, 0, 3, 3, 1]], np.int32)


def conv(x, kernel=KERNEL, stride=1, groups=1):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )  # fmt: skip


def branches(x):
    return lax.switch(x[0, 0, 0, 0].astype(jnp.int32), [lambda a: a - 1, lambda a: a + 1, lambda a: a * 2], x)


def loop(x):
    return lax.while_loop(lambda a: a[0] < 9, lambda a: a * 2, x)


CASES = {
    "convolution": (lambda x: conv(x, stride=2) + floats(1, 1, 1, 8), IMAGE),
    "depthwise": (lambda x: conv(x, KERNEL[:, :, :1, :4], groups=4), IMAGE),
    "pointwise": (lambda x: conv(x) @ floats(8, 3), IMAGE),
    "pointwise by data": (lambda x, k: conv(x) @ k, IMAGE, floats(8, 3)),
    "linear": (lambda x: x @ floats(4, 3), IMAGE),
    "pool after convolution": (lambda x: csp.max_pool(conv(x), 5), IMAGE),
    "upsample": (lambda x: csp.upsample(conv(x)), IMAGE),
    "resize": (lambda x: resize.double(conv(x)) + resize.double(conv(x, stride=1)), IMAGE),
    "windows": (lambda x: attention.unwindows(attention.windows(conv(x), 7) * 2, 7, 6, 8), IMAGE),
    "heads split off channels": (lambda x: conv(x).reshape(1, 48, 2, 4).sum(-1), IMAGE),
    "reshape that mixes axes": (lambda x: conv(x).reshape(8, 48), IMAGE),
    "transpose": (lambda x: jnp.transpose(conv(x), (2, 0, 3, 1))[:, 0], IMAGE),
    "space to depth": (
        lambda x: conv(jnp.concatenate([x[:, ::2, 1::2], x[:, 1::2, ::2]], -1)[..., ::2]), IMAGE
    ),
    "padding": (lambda x: jnp.pad(conv(x), ((0, 0), (1, 2), (0, 3), (0, 0))), IMAGE),
    "padding between": (
        lambda x: [lax.pad(conv(x), 0.5, [(0, 0, 0), (1, 0, 2), (0, 3, 1), (0, 0, 1)]),
                   lax.pad(x, 0.0, [(0, 0, 0)] * 3 + [(0, 2, 1)])], IMAGE
    ),
    "split": (lambda x: jnp.split(conv(x), 2, -1), IMAGE),
    "stack": (lambda x: jnp.stack([conv(x), conv(x) * 2], 2), IMAGE),
    "statistics": (lambda x: (conv(x) - conv(x).mean((1, 3), keepdims=True)).max(-1), IMAGE),
    "argmax of equal values": (lambda x: jnp.argmax(jnp.floor(x), -1).astype(jnp.int32), IMAGE),
    "attention": (
        lambda q, k: jnp.einsum("bnqhd,bnkhd->bnhqk", q, k), floats(1, 2, 3, 2, 4), floats(1, 2, 5, 2, 4)
    ),
    "two axes": (lambda a, b: jnp.einsum("ijk,jkl->il", a, b), floats(2, 3, 4), floats(3, 4, 5)),
    "outer product": (lambda a, b: jnp.einsum("i,j->ij", a, b), floats(3), floats(4)),
    "activations": (lambda x: [jax.nn.silu(x), csp.mish(x), jax.nn.gelu(x, approximate=False)], 4 * IMAGE),
    "functions": (
        lambda x: [lax.rsqrt(x * x + 1), x**3, jnp.abs(x), jnp.clip(x, -0.5, 0.5), jnp.tanh(x)], IMAGE
    ),
    "comparisons": (lambda x: [(x >= 0) & ~(x > 1) | (x == 2), (x > 3).any(-1), (x > -9).all(0)], IMAGE),
    "where": (lambda x: jnp.where(x[..., :1] > 0, x, -jnp.inf), IMAGE),
    "whole numbers": (lambda n: [n % 4, n // 4, jnp.sign(n), lax.rem(n, jnp.int32(4))], NUMBERS),
    "truncation": (lambda x: (10 * x).astype(jnp.int32), IMAGE),
    "rows by index": (lambda x, i: x[i], floats(4, 2, 3), INDEX),
    "rows of an inner axis": (lambda x, i: jnp.take(conv(x), i[0], 2, mode="clip"), IMAGE, INDEX),
    "sums by segment": (lambda x, i: jax.ops.segment_sum(x, i[0], 3), floats(5, 2), INDEX),
    "event attention": (
        lambda q, k, v, c: attention.event_attention(q, k, v, c, jnp.array([0.5, -1])),
        floats(1, 6, 2, 3), floats(1, 8, 2, 3, seed=1), floats(1, 8, 2, 3, seed=2),
        np.array([[0, 0, 1, 3, 3, 5, 6, 6]], np.int32),
    ),
    "slice at data": (lambda x, i: lax.dynamic_slice(x, (0, i[0, 4], 9, 0), (1, 2, 3, 4)), IMAGE, INDEX),
    "choice by data": (branches, 1 + 0 * IMAGE),
    "output that is an input": (lambda x: (x, jnp.zeros(3)), IMAGE),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_onnx_runtime_gives_what_jax_gives(case):
    function, *arrays = CASES[case]
    found, _ = through(function, *arrays)
    expected = jax.tree.leaves(jax.jit(function)(*arrays))
    for ours, theirs in zip(expected, found, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        # Float32 sums of up to 72 products of magnitude 1, in another order.
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=2e-5)


def test_channels_stay_first_between_convolutions():
    """Two transposes in all: of the input, and of the output."""

    def network(x):
        y = jax.nn.silu(conv(x) + floats(1, 1, 1, 8))
        y = jnp.concatenate([csp.upsample(csp.max_pool(y, 5)), csp.upsample(y)], -1)
        return conv(y @ floats(16, 4))

    _, ops = through(network, IMAGE)
    assert ops.count("Transpose") == 2
    assert ops.count("Resize") == 2


@pytest.mark.parametrize(
    ("function", "name"),
    [(jnp.sort, "sort"), (jnp.cumsum, "cumsum"), (loop, "while")],
)  # fmt: skip
def test_an_unknown_primitive_is_refused_by_its_name(function, name):
    with pytest.raises(InputError, match=f"primitive '{name}' .* export to .stablehlo"):
        through(function, floats(4))


def test_code_for_other_platforms_than_cpu_is_taken():
    chosen = lambda x: lax.platform_dependent(x, cpu=lambda x: x + 1, default=lambda x: x * 3)  # noqa: E731
    (found,), ops = through(chosen, floats(4))
    np.testing.assert_array_equal(found, floats(4) * 3)
    assert ops == ["Mul", "Identity"]
