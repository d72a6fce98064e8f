"""The form of models for training on GPUs: the same loss and gradients, to parameters of the same names."""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet import models, sharding
from jaxdet.nn import functional
from jaxdet.nn.conv import Conv, Linear
from jaxdet.nn.gpu_training import in_few_kernels
from jaxdet.nn.norm import GroupNorm, LayerNorm
from jaxdet.structs import EventGeometry, Events

LANES, STEPS, EVENTS = 2, 2, 40


@pytest.fixture(scope="module")
def model():
    """Both memories fire at every step; random scales and biases, so that each gradient says something."""
    small = {"widths": (8, 16), "num_heads": (1, 2), "depths": (1, 1), "periods": (1, 1)}
    sizes = {"out_features": 8, "event_features": 4, "event_sizes": (), "remat": False}
    geometry = EventGeometry(26, 35)
    skeleton, variables = functional.split(
        models.build("hmnet", rngs=nnx.Rngs(0), geometry=geometry, **small, **sizes)
    )
    leaves, structure = jax.tree.flatten(variables.params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    moved = [a + 0.1 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    return skeleton, variables._replace(params=jax.tree.unflatten(structure, moved))


def _events():
    rng = np.random.default_rng(0)
    xy = np.stack([rng.uniform(0, 35, (LANES, EVENTS)), rng.uniform(0, 26, (LANES, EVENTS))], -1)
    t_us, polarity = rng.integers(0, 5000, (LANES, EVENTS)), rng.integers(0, 2, (LANES, EVENTS))
    start = np.tile([0, EVENTS // 2, EVENTS], (LANES, 1)).astype(np.int32)
    return Events(xy.astype(np.float32), t_us.astype(np.int16), polarity.astype(np.int8), start)


def _program(skeleton, variables, form, mesh):
    """Compiled loss and gradients of parameters and events."""

    def loss(params, events):
        model = functional.merge(*form(skeleton, functional.Variables(params, variables.batch_stats)))
        carry = model.init_carry(LANES)
        carry = carry._replace(steps=carry.steps + 9)  # messages count
        at_step, reset = jnp.full((LANES, 1), STEPS - 1), jnp.zeros(LANES, bool)
        out = model.backbone(events, at_step, reset, carry, train=True)
        waves = (jnp.sin(jnp.arange(f.size, dtype=f.dtype)).reshape(f.shape) for f in out.features)
        return sum((wave * f).sum() for wave, f in zip(waves, out.features, strict=True))

    shardings = sharding.replicated(mesh), sharding.lanes(mesh)
    program = jax.jit(jax.value_and_grad(loss), in_shardings=shardings)
    return program.lower(variables.params, _events()).compile()


def _mesh(num_devices):
    return sharding.make_mesh(LANES, jax.devices()[:num_devices])


@pytest.fixture(scope="module")
def plain(model):
    program = _program(*model, lambda *whole: whole, _mesh(1))
    return program(model[1].params, _events())


@pytest.mark.parametrize("num_devices", [1, 2])
def test_loss_and_gradients_are_those_of_the_plain_model(model, plain, num_devices):
    mesh = _mesh(num_devices)
    program = _program(*model, partial(in_few_kernels, mesh=mesh, interpret=True), mesh)
    loss, found = program(*_placed(model[1].params, mesh))
    expected_loss, expected = plain
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    flat = jax.tree_util.tree_leaves_with_path
    largest = max(float(jnp.abs(a).max()) for a in jax.tree.leaves(expected))
    for (path, got), (same, want) in zip(flat(found), flat(expected), strict=True):
        assert path == same
        # Float32 sums in another order, through two steps.
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5 * largest, err_msg=str(path))
    touched = [path for path, a in flat(found) if "backbone" in str(path) and float(jnp.abs(a).max()) > 0]
    assert len(touched) > 60  # both memories, their messages and events
    if num_devices > 1:
        assert _messages(program) == [_num_weights(*model)]


def _placed(params, mesh):
    to = lambda tree, layout: jax.tree.map(lambda a: sharding.place(a, layout), tree)  # noqa: E731
    return to(params, sharding.replicated(mesh)), to(_events(), sharding.lanes(mesh))


def _messages(program):
    """Elements of the large arrays that devices add: initial latents and logits have fewer than 5000."""
    types = re.findall(r"= (\(?f32\[.*?) all-reduce\(", program.as_text())
    shapes = [shape for kinds in types for shape in re.findall(r"f32\[([\d,]+)\]", kinds)]
    return [size for size in (math.prod(map(int, shape.split(","))) for shape in shapes) if size >= 5000]


def _num_weights(skeleton, variables):
    """Weights of convolutions, affine maps and norms but batch norms."""
    layers = [m for _, m in nnx.iter_modules(functional.merge(skeleton, variables))]
    kinds = Conv | Linear | LayerNorm | GroupNorm
    return sum(leaf.size for m in layers if isinstance(m, kinds) for leaf in jax.tree.leaves(nnx.state(m)))
