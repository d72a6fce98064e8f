"""A mean teacher: one that equals the student gives the student's own boxes, and nothing else changes."""

import jax
import numpy as np
import pytest
from tiny_detectors import get_config, one_level

from jaxdet.data.events import augment, packing
from jaxdet.data.events.streams import EventChunk
from jaxdet.errors import InputError
from jaxdet.nn import functional
from jaxdet.training import recipe, state
from jaxdet.training.step import make_train_step
from jaxdet.training.teacher import Teacher

STEPS, BOXES = 12, 5


def a_config():
    cfg = get_config("hmnet")
    # One memory and one level: further ones would compile for longer and say no more.
    for name in ("widths", "num_heads", "depths", "periods"):
        cfg.model[name] = cfg.model[name][:1]
    cfg.model.event_sizes = ()
    cfg.model.warm_up_steps, cfg.model.min_score = 6, 1e-6  # fresh weights are sure of nothing
    return cfg


def a_batch():
    """Two lanes of random events; the first has a label at step 8."""
    rng = np.random.default_rng(0)
    batch = packing.empty(2, 512, STEPS, 2, BOXES)
    pixels = augment.pixel_map(augment.identity(64, 64))
    for lane in range(2):
        num = 300
        x, y = (rng.integers(0, 64, num).astype(np.int16) for _ in range(2))
        t = np.sort(rng.integers(0, 5000 * STEPS, num))
        chunk = EventChunk(t, x, y, rng.integers(0, 2, num).astype(np.int8))
        packing.put_events(batch, lane, chunk, 0, pixels, 5000)
    batch.targets.slot_mask[0, 0], batch.targets.at_step[0, 0] = True, 8
    batch.targets.box_mask[0, 0, 0], batch.targets.boxes[0, 0, 0] = True, [4, 4, 40, 40]
    return batch


@pytest.fixture(scope="module")
def parts():
    skeleton, variables = functional.split(one_level(a_config()))
    carry = functional.merge(skeleton, variables).init_carry(2)
    return skeleton, variables, carry


def test_a_teacher_that_equals_the_student_gives_its_boxes_at_steps_without_a_label(parts):
    skeleton, variables, carry = parts
    batch, teacher = a_batch(), Teacher(slots=3, min_score=0.0)

    @jax.jit
    def both(variables, batch, carry, at_step):
        student = functional.merge(skeleton, variables)
        found = student.predict(batch.inputs, at_step, batch.reset, carry)[0]
        return teacher.label(skeleton, variables, batch, carry).targets, found

    # Three steps from 6 to 11: 6, 8 (8.5 rounded to even) and 11; step 8 of the first lane has a label.
    steps = np.array([[6, -1, 11], [6, 8, 11]], np.int32)
    got, found = both(variables, batch, carry, steps)
    for old, new in zip(batch.targets, got, strict=True):
        np.testing.assert_array_equal(new[:, :2], old)
    np.testing.assert_array_equal(got.at_step[:, 2:], steps)
    np.testing.assert_array_equal(got.slot_mask[:, 2:], steps >= 0)
    for lane, slot in np.argwhere(steps >= 0):
        kept = np.asarray(found.det_mask[lane, slot])
        order = np.argsort(-np.asarray(found.scores[lane, slot])[kept], kind="stable")[:BOXES]
        mask = np.asarray(got.box_mask[lane, 2 + slot])
        assert mask.sum() == len(order) > 0
        for name in ("boxes", "labels"):
            want = np.asarray(getattr(found, name)[lane, slot])[kept][order]
            have = np.asarray(getattr(got, name)[lane, 2 + slot])[mask]
            # Keys by table and by product differ in the last bits of float32.
            np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-3)


def test_where_the_teacher_is_sure_of_nothing_the_update_is_that_without_a_teacher(parts):
    skeleton, variables, carry = parts
    cfg = a_config()
    cfg.optim.ema_decay = 0.9
    plain = recipe.make(cfg)
    cfg.optim.teacher_slots, cfg.optim.teacher_score = 2, 1.0
    taught = recipe.make(cfg)
    assert (plain.teacher, taught.teacher) == (None, Teacher(2, 1.0))

    def with_teacher(fresh, batch, min_score):
        made = taught._replace(teacher=Teacher(2, min_score))
        return make_train_step(skeleton, made)(fresh, carry, batch)

    def with_score(min_score):
        fresh = state.create(variables, taught.optimizer, ema=True)
        return jitted(fresh, a_batch(), min_score)

    jitted = jax.jit(with_teacher)
    fresh = state.create(variables, plain.optimizer, ema=True)
    ends = [jax.jit(make_train_step(skeleton, plain))(fresh, carry, a_batch()), with_score(1.0)]
    # Without a limit of the score all slots are full.
    guessed = [end[2].pop("num_teacher_boxes", None) for end in (*ends, with_score(0.0))]
    assert guessed == [None, 0, 2 * 2 * BOXES]
    for a, b in zip(*(jax.tree.leaves((end[0].params, end[2])) for end in ends), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_teacher_without_an_average_is_refused():
    cfg = a_config()
    cfg.optim.teacher_slots = 2
    with pytest.raises(InputError, match=r"teacher_slots is 2, .*set optim.ema_decay"):
        recipe.make(cfg)


def test_more_slots_than_steps_are_refused(parts):
    skeleton, variables, carry = parts
    with pytest.raises(InputError, match="teacher_slots is 7, a segment has 6 steps"):
        Teacher(7, 0.5).label(skeleton, variables, a_batch(), carry)
