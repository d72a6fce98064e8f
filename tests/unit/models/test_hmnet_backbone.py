"""HMNet on sensors whose size is no multiple of its cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.spatial import cKDTree

from jaxdet import models
from jaxdet.data.events import packing
from jaxdet.data.events.augment import identity, pixel_map
from jaxdet.data.events.streams import EventChunk
from jaxdet.inference.streaming import StreamDetector
from jaxdet.nn import functional
from jaxdet.ops.resize import grids_of
from jaxdet.structs import EventGeometry
from jaxdet.weights import families, rules

SMALL = {
    "widths": (8, 8, 8),
    "num_heads": (1, 1, 1),
    "depths": (1, 1, 1),
    "periods": (1, 1, 3),
    "out_features": 8,
    "event_features": 4,
    "min_score": 0.0,
    "warm_up_steps": 2,
}
STEPS = 4
ODD = (26, 35)  # grids of 7 x 9 and 4 x 5 cells


def _model(size, memories=3):
    per_memory = {key: value[:memories] for key, value in SMALL.items() if isinstance(value, tuple)}
    arguments = {**SMALL, **per_memory}
    return models.build("hmnet", rngs=nnx.Rngs(0), geometry=EventGeometry(*size), **arguments)


@pytest.mark.parametrize(
    ("size", "grids"),
    [
        ((240, 304), [(60, 76), (30, 38), (15, 19)]),
        ((440, 640), [(110, 160), (55, 80), (28, 40)]),
        ((260, 346), [(65, 87), (33, 44), (17, 22)]),
        ((360, 640), [(90, 160), (45, 80), (23, 40)]),
        ((720, 1280), [(180, 320), (90, 160), (45, 80)]),
    ],
)
def test_grids_are_rounded_up_and_reach_features_and_torch_files(size, grids):
    assert grids_of(size, 4, 3) == grids
    skeleton, target = functional.abstract(lambda: _model(size))

    def run(variables):
        model = functional.merge(skeleton, variables)
        batch = packing.empty(1, 4, 4, 1, 0)
        at_step, reset = jnp.full((1, 1), 3), jnp.ones(1, bool)
        out = model.backbone(batch.inputs, at_step, reset, model.init_carry(1))
        return model.neck(out.features), out.carry

    levels, carry = jax.eval_shape(run, target)
    assert [level.shape[1:3] for level in levels] == grids
    assert [message.shape[1:3] for message in carry.message] == grids[:2]
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), target)
    state = rules.to_torch(zeros, families.RULES["hmnet"])
    for number, (rows, columns) in enumerate(grids, 1):
        assert state[f"backbone.memory{number}.init_latent"].shape == (1, rows * columns, 8)


@pytest.fixture(scope="module")
def odd():
    return _data(ODD)


def _data(size):
    """Skeleton and weights of a small model for a sensor, events on it as columns, and as a batch."""
    skeleton, variables = functional.split(_model(size, memories=2))
    rng = np.random.default_rng(1)
    t_us = np.sort(rng.integers(0, 5000 * STEPS, 300))
    columns = (t_us, rng.integers(0, size[1], 300), rng.integers(0, size[0], 300), rng.integers(0, 2, 300))
    batch = packing.empty(1, 300, STEPS, 1, 1)
    packing.put_events(batch, 0, EventChunk(*columns), 0, pixel_map(identity(*size)), 5000)
    return skeleton, variables, columns, batch


def test_a_stream_equals_the_segment_on_an_odd_sensor(odd):
    skeleton, variables, columns, batch = odd
    model = functional.merge(skeleton, variables)
    at_step = jnp.arange(STEPS)[None]
    found, _ = jax.jit(model.predict)(batch.inputs, at_step, jnp.ones(1, bool), model.init_carry(1))
    stream = StreamDetector(skeleton, variables, event_sizes=(128,))
    steps = [*stream.feed(*columns), *stream.advance(5000 * STEPS)]
    assert len(steps) == STEPS
    for k, step in enumerate(steps):
        mask = np.asarray(found.det_mask[0, k])
        assert (k >= 1) == mask.any()
        # Two programs, so other fusions: float32 rounding through 4 steps, by which boxes of equal scores may
        # change places.
        np.testing.assert_allclose(step.boxes.scores, found.scores[0, k][mask], atol=1e-5)
        streamed = _rows(step.boxes.xyxy, step.boxes.scores, step.boxes.labels)
        whole = _rows(*(np.asarray(a[0, k])[mask] for a in (found.boxes, found.scores, found.labels)))
        assert len(streamed) == len(whole)
        if len(whole):
            distance, index = cKDTree(whole).query(streamed, p=np.inf)
            assert distance.max() <= 1
            assert len(set(index.tolist())) == len(whole)


def _rows(xyxy, scores, labels):
    """Boxes as points which lie at most 1 apart if they are the same box."""
    return np.c_[xyxy / 1e-2, scores / 1e-5, labels * 1e3]


@pytest.mark.slow
def test_a_train_step_on_an_odd_sensor_moves_every_grid(odd):
    skeleton, variables, _, batch = odd
    batch.targets.boxes[0, 0, 0] = (4, 4, 28, 22)
    batch.targets.box_mask[:], batch.targets.slot_mask[:], batch.targets.at_step[:] = True, True, STEPS - 1

    @jax.jit
    def loss_and_gradient(params, batch):
        def loss(params):
            model = functional.merge(skeleton, functional.Variables(params, variables.batch_stats))
            return model.loss(batch, model.init_carry(1))[0]

        return jax.value_and_grad(loss)(params)

    before, gradient = loss_and_gradient(variables.params, batch)
    after, _ = loss_and_gradient(jax.tree.map(lambda p, g: p - 1e-3 * g, variables.params, gradient), batch)
    assert np.isfinite(before)
    assert after < before
    for number in (1, 2):
        assert np.abs(gradient["backbone"][f"memory{number}"]["init_latent"]).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("size", [(440, 640), (260, 346), (360, 640), (720, 1280)])
def test_sensors_of_today_train_a_step_and_stream_what_a_segment_gives(size):
    data = _data(size)
    test_a_stream_equals_the_segment_on_an_odd_sensor(data)
    test_a_train_step_on_an_odd_sensor_moves_every_grid(data)
