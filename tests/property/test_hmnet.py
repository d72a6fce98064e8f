"""What holds for HMNet whatever its weights and events, on a model of 8x8 and 4x4 cells that fires every 1
and 3 steps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet import models
from jaxdet.inference.streaming import StreamDetector
from jaxdet.nn import functional
from jaxdet.structs import Batch, EventGeometry, Events, Targets

SIZE = 32
REDUCED = {
    "geometry": EventGeometry(SIZE, SIZE),
    "widths": (16, 32),
    "num_heads": (1, 2),
    "depths": (1, 1),
    "periods": (1, 3),
    "out_features": 32,
    "event_features": 8,
    "min_score": 0.0,
}
STEPS = 7


class Model:
    """A skeleton that can be a static argument of a jitted function."""

    def __init__(self, **changes):
        self.make = lambda: models.build("hmnet", rngs=nnx.Rngs(3), **{**REDUCED, **changes})
        self.skeleton, _ = functional.abstract(self.make)

    def merge(self, variables):
        return functional.merge(self.skeleton, variables)


@pytest.fixture(scope="module")
def skeleton_and_variables():
    model = Model()
    return model, functional.split(model.make())[1]


# What only concerns the events needs no further memory, whose steps are unrolled.
ONE = {"widths": (16,), "num_heads": (1,), "depths": (1,), "periods": (1,)}


@pytest.fixture(scope="module")
def one_memory():
    model = Model(**ONE)
    return model, functional.split(model.make())[1]


def events(seed, counts, room=None):
    """Integer events, `counts` [B][T] of them, as arrays padded to `room`."""
    rng = np.random.default_rng(seed)
    counts = np.asarray(counts)
    room = room or int(counts.sum(1).max())
    xy, t = np.zeros((len(counts), room, 2), np.float32), np.zeros((len(counts), room), np.int16)
    polarity = np.zeros((len(counts), room), np.int8)
    for lane, row in enumerate(counts):
        total = row.sum()
        place = rng.integers(0, SIZE, (total, 2))
        step = np.repeat(np.arange(len(row)), row)
        order = np.lexsort((place[:, 0] // 4, place[:, 1] // 4, step))
        xy[lane, :total], t[lane, :total] = place[order], rng.integers(0, 5000, total)
        polarity[lane, :total] = rng.integers(0, 2, total)
    starts = np.pad(np.cumsum(counts, 1), ((0, 0), (1, 0))).astype(np.int32)
    return Events(jnp.asarray(xy), jnp.asarray(t), jnp.asarray(polarity), jnp.asarray(starts))


def cut(whole, first, last):
    """Steps [first, last) of a segment."""
    return whole._replace(step_start=whole.step_start[:, first : last + 1])


@partial(jax.jit, static_argnums=(0, 6, 7))
def jitted(skeleton, variables, inputs, at_step, reset, carry, start_phase, options):
    model = skeleton.merge(variables)
    out = model.backbone(inputs, at_step, reset, carry, start_phase=start_phase, **dict(options))
    return out.features, out.valid, out.carry


def run(skeleton, variables, inputs, at_step, reset, carry, start_phase=0, options=()):
    # What is left out is another program to `jax.jit` than what is given.
    return jitted(skeleton, variables, inputs, at_step, reset, carry, start_phase, options)


def start(skeleton, variables, lanes):
    return skeleton.merge(variables).init_carry(lanes)


def assert_equal(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y), a, b)


COUNTS = [[40, 0, 25, 90, 3, 0, 8]]
LANES = [*COUNTS, [7] * STEPS]


def whole_run(skeleton, variables, inputs, options=()):
    lanes = inputs.xy.shape[0]
    at_step = jnp.tile(jnp.array([[2, 3, STEPS - 1, -1]]), (lanes, 1))
    carry = start(skeleton, variables, lanes)
    return run(skeleton, variables, inputs, at_step, jnp.zeros(lanes, bool), carry, 0, options)


@pytest.mark.parametrize("first", [3, 4])
def test_two_segments_with_a_carry_equal_one(skeleton_and_variables, first):
    skeleton, variables = skeleton_and_variables
    inputs = events(0, LANES)
    features, valid, carry = whole_run(skeleton, variables, inputs)
    assert valid.tolist() == [[False, True, True, False]] * 2
    reset, none = jnp.zeros(2, bool), jnp.full((2, 1), -1)
    begin = start(skeleton, variables, 2)
    _, _, middle = run(skeleton, variables, cut(inputs, 0, first), none, reset, begin)
    last = jnp.full((2, 1), STEPS - 1 - first)
    rest = cut(inputs, first, STEPS)
    late, late_valid, end = run(skeleton, variables, rest, last, reset, middle, first % 3)
    assert late_valid.all()
    assert end.steps.tolist() == [STEPS] * 2
    for one, two in zip(features, late, strict=True):
        # Another program, so other fusions: float32 rounding through 7 steps.
        np.testing.assert_allclose(two, one.reshape(2, 4, *one.shape[1:])[:, 2], atol=2e-4)
    for one, two in zip(carry.latent, end.latent, strict=True):
        np.testing.assert_allclose(two, one, atol=2e-4)


@pytest.mark.slow
def test_gradients_of_two_segments_add_up_to_that_of_one(skeleton_and_variables):
    """What a cut leaves out is the part through the carry, and nothing else."""
    skeleton, variables = skeleton_and_variables
    inputs, stats = events(0, [row[:6] for row in LANES]), variables.batch_stats
    reset, begin = jnp.zeros(2, bool), start(skeleton, variables, 2)

    def backbone(params, part, step, carry):
        model = skeleton.merge(functional.Variables(params, stats))
        out = model.backbone(part, jnp.full((2, 1), step), reset, carry, True)
        return sum((f**2).mean() for f in out.features), out.carry

    def pair(first, second):
        _, carry = backbone(first, cut(inputs, 0, 3), -1, begin)
        return backbone(second, cut(inputs, 3, 6), 2, carry)[0]

    @jax.jit
    def gradients(params):
        whole = jax.grad(lambda p: backbone(p, inputs, 5, begin)[0])(params)
        return whole, *jax.grad(pair, (0, 1))(params, params)

    whole, first, second = gradients(variables.params)
    assert max(np.abs(g).max() for g in jax.tree.leaves(first)) > 1e-6
    largest = max(np.abs(g).max() for g in jax.tree.leaves(whole))
    for a, b, c in zip(*(jax.tree.leaves(g) for g in (whole, first, second)), strict=True):
        # Rounding of float32 through 6 steps and back.
        np.testing.assert_allclose(b + c, a, atol=1e-4 * largest)


def test_features_before_the_first_publication_are_zero(skeleton_and_variables):
    features, valid, _ = whole_run(*skeleton_and_variables, events(0, LANES))
    for level in features:
        level = level.reshape(2, 4, *level.shape[1:])
        assert not level[:, ~np.asarray(valid[0])].any()
        assert level[:, 1].any()


def test_rows_after_the_last_event_change_nothing(one_memory):
    garbage = events(2, [[50] * STEPS] * 2)
    inputs = events(1, LANES, garbage.xy.shape[1])
    after = np.arange(inputs.xy.shape[1]) >= np.asarray(inputs.step_start)[:, -1:]
    padded = Events(
        *(
            jnp.where(after.reshape(*after.shape, *(1,) * (a.ndim - 2)), b, a)
            for a, b in zip(inputs[:3], garbage[:3], strict=True)
        ),
        inputs.step_start,
    )
    for one, two in zip(
        jax.tree.leaves(whole_run(*one_memory, inputs)),
        jax.tree.leaves(whole_run(*one_memory, padded)),
        strict=True,
    ):
        np.testing.assert_allclose(two, one, atol=2e-5)


def test_a_burst_larger_than_the_first_sizes_is_read_whole(one_memory):
    inputs = events(3, LANES)
    roomy = whole_run(*one_memory, inputs)  # its sizes are larger than the segment, which is read whole
    tight = whole_run(*one_memory, inputs, (("event_sizes", (8, 32)),))
    for one, two in zip(jax.tree.leaves(roomy), jax.tree.leaves(tight), strict=True):
        np.testing.assert_allclose(two, one, atol=2e-5)


def test_real_coordinates_and_table_agree(one_memory):
    inputs = events(3, LANES)
    table = whole_run(*one_memory, inputs)
    direct = whole_run(Model(**ONE, integer_events=False), one_memory[1], inputs)
    for one, two in zip(jax.tree.leaves(table), jax.tree.leaves(direct), strict=True):
        np.testing.assert_allclose(two, one, atol=2e-5)


def test_lanes_are_independent_and_a_reset_touches_one(skeleton_and_variables):
    skeleton, variables = skeleton_and_variables
    inputs, other = events(4, LANES), events(5, [LANES[1], LANES[1]], events(4, LANES).xy.shape[1])
    # Lane 0 keeps its events. The other lane's steps all hold events, so the shared rule of empty steps is
    # met.
    swapped = Events(*(a.at[1].set(b[1]) for a, b in zip(inputs, other, strict=True)))
    _, _, carry = whole_run(skeleton, variables, inputs)
    _, _, swapped_carry = whole_run(skeleton, variables, swapped)
    lane = lambda tree, i: jax.tree.map(lambda a: a[i], tree)  # noqa: E731
    assert_equal(lane(carry, 0), lane(swapped_carry, 0))

    at_step = jnp.full((2, 4), STEPS - 1, jnp.int32)  # typed as in `whole_run`: one program
    kept = run(skeleton, variables, inputs, at_step, jnp.array([False, False]), carry)[2]
    reset = run(skeleton, variables, inputs, at_step, jnp.array([False, True]), carry)[2]
    fresh = run(skeleton, variables, inputs, at_step, jnp.array([True, True]), carry)[2]
    assert_equal(lane(kept, 0), lane(reset, 0))
    assert_equal(lane(fresh, 1), lane(reset, 1))
    assert reset.steps.tolist() == [2 * STEPS, STEPS]


def test_an_empty_step_skips_the_write_for_all_lanes_or_for_each(one_memory):
    skeleton, variables = one_memory
    begin, reset, none = start(skeleton, variables, 1), jnp.zeros(1, bool), jnp.full((1, 1), -1)
    empty = events(6, [[0]], 4)
    alone = run(skeleton, variables, empty, none, reset, begin)[2]
    backbone = skeleton.merge(variables).backbone
    # Without a write only the update block runs.
    np.testing.assert_allclose(
        alone.latent[0], backbone.memory1.updated(backbone.memory1.initial()), atol=1e-5
    )

    both, two = events(6, [[0], [4]]), start(skeleton, variables, 2)
    neighbour = run(skeleton, variables, both, jnp.full((2, 1), -1), jnp.zeros(2, bool), two)[2]
    assert np.abs(neighbour.latent[0][0] - alone.latent[0][0]).max() > 1e-3
    per_lane = (("empty_step_per_lane", True),)
    options = run(skeleton, variables, both, jnp.full((2, 1), -1), jnp.zeros(2, bool), two, 0, per_lane)[2]
    np.testing.assert_allclose(options.latent[0][0], alone.latent[0][0], atol=1e-5)


def test_streaming_equals_the_segment(skeleton_and_variables):
    skeleton, variables = skeleton_and_variables
    inputs = events(7, COUNTS)
    model = skeleton.merge(variables)
    at_step = jnp.arange(STEPS)[None]
    found, _ = jax.jit(model.predict)(inputs, at_step, jnp.zeros(1, bool), model.init_carry(1))
    stream = StreamDetector(skeleton.skeleton, variables, event_sizes=(128,), start_us=10_000)
    t_us = np.asarray(inputs.t_us[0]) + 10_000 + 5000 * np.repeat(np.arange(STEPS), COUNTS[0])
    order = np.argsort(t_us, kind="stable")
    x, y = np.asarray(inputs.xy[0])[order].T
    columns = (t_us[order], x, y, np.asarray(inputs.polarity[0])[order])
    half = len(order) // 2
    frames = [*stream.feed(*(c[:half] for c in columns)), *stream.feed(*(c[half:] for c in columns))]
    frames += stream.advance(10_000 + 5000 * STEPS)
    assert [f.boxes.time_us for f in frames] == [10_000 + 5000 * (k + 1) for k in range(STEPS)]
    for k, frame in enumerate(frames):
        mask = np.asarray(found.det_mask[0, k])
        assert (k >= 3) == mask.any()
        assert len(frame.boxes) == mask.sum()
        np.testing.assert_allclose(frame.boxes.scores, found.scores[0, k][mask], atol=1e-5)
        np.testing.assert_allclose(frame.boxes.xyxy, found.boxes[0, k][mask], atol=1e-2)


def labelled(inputs, at_step, num_boxes, slots=1):
    lanes = inputs.xy.shape[0]
    rng = np.random.default_rng(0)
    low = rng.integers(0, 16, (lanes, slots, num_boxes, 2))
    boxes = np.concatenate([low, low + rng.integers(8, 16, low.shape)], -1).astype(np.float32)
    mask = np.ones((lanes, slots, num_boxes), bool)
    targets = Targets(
        boxes,
        np.zeros(mask.shape, np.int32),
        mask,
        np.zeros_like(mask),
        np.full((lanes, slots), at_step, np.int32),
        np.ones((lanes, slots), bool),
    )
    targets = jax.tree.map(jnp.asarray, targets)
    return Batch(inputs, targets, jnp.ones(lanes, bool), jnp.zeros((lanes, slots, 2), jnp.int32))


@partial(jax.jit, static_argnums=0)
def loss_and_grad(skeleton, variables, batch, carry):
    def loss(params):
        model = skeleton.merge(variables._replace(params=params))
        total, metrics, _ = model.loss(batch, carry)
        return total, (metrics, functional.batch_stats(model))

    (total, rest), grads = jax.value_and_grad(loss, has_aux=True)(variables.params)
    return total, *rest, grads


@pytest.fixture(scope="module")
def trained():
    """A model whose labels count from step 4 on; both memories fire at every step, so no step is
    unrolled."""
    model = Model(warm_up_steps=4, periods=(1, 1))
    return model, functional.split(model.make())[1]


def test_padded_slots_and_boxes_do_not_change_the_loss(trained):
    skeleton, variables = trained
    inputs = events(8, [row[:5] for row in LANES])
    carry = start(skeleton, variables, 2)
    plain = labelled(inputs, 4, 4, slots=2)
    mask = plain.targets.box_mask.at[:, :, 2:].set(False)
    slot_mask = jnp.array([[True, False]] * 2)
    one = plain._replace(targets=plain.targets._replace(box_mask=mask, slot_mask=slot_mask))
    noise = jax.random.uniform(jax.random.key(0), one.targets.boxes.shape) * 64
    boxes = jnp.where((mask & slot_mask[..., None])[..., None], one.targets.boxes, noise)
    at_step = one.targets.at_step.at[:, 1].set(2)
    two = one._replace(targets=one.targets._replace(boxes=boxes, at_step=at_step))
    first, second = (loss_and_grad(skeleton, variables, b, carry) for b in (one, two))
    assert float(first[0]) > 0
    assert_equal(first, second)
    swapped = one._replace(
        targets=one.targets._replace(boxes=one.targets.boxes.at[:, :, :2].set(one.targets.boxes[:, :, 1::-1]))
    )
    third = loss_and_grad(skeleton, variables, swapped, carry)
    np.testing.assert_allclose(third[0], first[0], rtol=1e-5)


def test_without_a_countable_label_only_the_batch_statistics_move(trained):
    skeleton, variables = trained
    inputs = events(8, [row[:5] for row in LANES])
    carry = start(skeleton, variables, 2)
    early = labelled(inputs, 3, 4, slots=2)
    total, metrics, stats, grads = loss_and_grad(skeleton, variables, early, carry)
    assert float(total) == 0
    assert int(metrics["num_slots"]) == 0
    assert all(not np.any(g) for g in jax.tree.leaves(grads))
    before, after = jax.tree.leaves(variables.batch_stats), jax.tree.leaves(stats)
    assert all(np.any(np.asarray(a) != np.asarray(b)) for a, b in zip(before, after, strict=True))
    # [Q5] As released, neck and head ran on the first lane as it stands after its last step, without targets.
    last = labelled(inputs, 4, 4, slots=2)
    last = last._replace(targets=last.targets._replace(slot_mask=jnp.array([[True, False], [False, False]])))
    assert_equal(stats, loss_and_grad(skeleton, variables, last, carry)[2])


@pytest.mark.slow
def test_backbone_runs_in_float64_and_bfloat16(skeleton_and_variables):
    skeleton, variables = skeleton_and_variables
    inputs = events(9, COUNTS)
    single = whole_run(skeleton, variables, inputs)[0]
    half = whole_run(Model(dtype=jnp.bfloat16), variables, inputs)[0]
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, variables)
        double = whole_run(skeleton, wide, inputs)[0]
    for a, b, c in zip(single, double, half, strict=True):
        assert b.dtype == jnp.float64
        assert c.dtype == jnp.bfloat16
        np.testing.assert_allclose(a, b, atol=1e-4)
        # Eight bits of mantissa through some thirty layers, of values up to about 1 that may cancel.
        np.testing.assert_allclose(c.astype(jnp.float32), b, atol=0.1, rtol=30 * 2**-8)
