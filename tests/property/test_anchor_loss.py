"""YOLOv4's assignment and loss for any boxes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet.models.anchor_head import AnchorHead
from jaxdet.models.heads import DecoupledHead
from jaxdet.ops import assign
from jaxdet.structs import Targets

SIZE = (6, 8)
ANCHORS = jnp.asarray([[1.0, 2.0], [3.0, 1.5]])
match = jax.jit(lambda boxes, mask: assign.anchor_ratio(boxes, mask, ANCHORS, SIZE, 4.0))


def quarters(low, high):
    """Multiples of a quarter, so that borders of cells and of their halves are met."""
    return st.integers(4 * low, 4 * high).map(lambda n: n / 4)


boxes = st.lists(
    st.tuples(quarters(0, 8), quarters(0, 6), quarters(0, 8), quarters(0, 6)), min_size=0, max_size=5
)


def padded(rows, room=7, at=0, junk=0.0):
    """[room, 4] and a mask; rows begin at `at`, the rest is `junk`."""
    out, mask = np.full((room, 4), junk, np.float32), np.zeros(room, bool)
    out[at : at + len(rows)], mask[at : at + len(rows)] = np.reshape(rows, (-1, 4)), True
    return jnp.asarray(out), jnp.asarray(mask)


def pairs(found, first=0):
    """{(group, anchor, box, row, column)} of the mask."""
    group, anchor, box = np.nonzero(found.mask)
    mask = np.asarray(found.mask)
    place = np.asarray(found.row)[mask].tolist(), np.asarray(found.column)[mask].tolist()
    return set(zip(group.tolist(), anchor.tolist(), (box - first).tolist(), *place, strict=True))


@settings(deadline=None, max_examples=60)
@given(boxes, st.sampled_from([0.0, 3.0, -1e6, 1e6]))
def test_padding_makes_no_pairs_and_changes_none(rows, junk):
    assert pairs(match(*padded(rows))) == pairs(match(*padded(rows, at=2, junk=junk)), first=2)


@settings(deadline=None, max_examples=60)
@given(boxes)
def test_pairs_lie_on_the_grid_fit_their_anchor_and_are_next_to_the_centre(rows):
    found = match(*padded(rows))
    for group, anchor, box, row, column in pairs(found):
        x, y, w, h = rows[box]
        assert 0 <= row < SIZE[0]
        assert 0 <= column < SIZE[1]
        ratio = np.array([w, h]) / np.asarray(ANCHORS[anchor])
        assert max(*ratio, *(1 / ratio)) < 4
        # The centre lies in the cell or at most half a cell from it; on the far border in the last cell.
        assert -0.5 <= x - column <= 1.5
        assert -0.5 <= y - row <= 1.5
        local = np.asarray(found.box)[group, anchor, box]
        np.testing.assert_allclose(local, [x - column, y - row, w, h], atol=1e-6)
        if group == 0:
            assert row == min(int(y), SIZE[0] - 1)
            assert column == min(int(x), SIZE[1] - 1)
    # A box that fits an anchor at all has the cell of its centre.
    assert {p[1:3] for p in pairs(found)} == {p[1:3] for p in pairs(found) if p[0] == 0}


def targets(slots, room):
    """Targets [S, M, ...] of slots of (label, x1, y1, x2, y2)."""
    shape = (len(slots), room)
    arrays = np.zeros((*shape, 4), np.float32), np.zeros(shape, np.int32), np.zeros(shape, bool)
    for i, rows in enumerate(slots):
        for j, (label, *box) in enumerate(rows):
            arrays[0][i, j], arrays[1][i, j], arrays[2][i, j] = box, label, True
    rest = np.zeros(shape, bool), np.zeros(len(slots), np.int32), np.ones(len(slots), bool)
    return Targets(*(jnp.asarray(a) for a in (*arrays, *rest)))


SIZES = ((8, 12), (4, 6))


def anchor_head():
    head = AnchorHead([4, 4], [[[9, 14], [20, 12]], [[30, 40], [60, 30]]], [8, 16], 3, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    raw = [jnp.asarray(rng.standard_normal((2, 2, *size, 8)), jnp.float32) for size in SIZES]
    return head, raw


def decoupled_head():
    head = DecoupledHead([4, 4], 3, 8, (8, 16), rngs=nnx.Rngs(0))
    raw = np.random.default_rng(0).standard_normal((2, 8 * 12 + 4 * 6, 8))
    return head, jnp.asarray(raw, jnp.float32)


SLOTS = [[(0, 10, 12, 30, 33), (2, 50, 20, 70, 40), (1, 40, 8, 52, 30)], [(1, 5, 30, 30, 50)]]


@pytest.mark.parametrize("make", [anchor_head, decoupled_head])
def test_order_of_boxes_padding_and_unlabelled_slots_do_not_matter(make):
    head, raw = make()

    @jax.jit
    def loss(raw, targets, slot_mask):
        value = lambda raw: head.loss(raw, SIZES, targets, slot_mask)[0]  # noqa: E731
        return jax.value_and_grad(value)(raw)

    first = targets(SLOTS, 6)
    value, grad = loss(raw, first, first.slot_mask)
    again = targets([SLOTS[0][::-1], SLOTS[1]], 6)
    junk = again.boxes.at[:, 4:].set(jnp.asarray([3.0, 3.0, 20.0, 20.0]).reshape(1, 1, 4))
    other_value, other = loss(raw, again._replace(boxes=junk), again.slot_mask)
    np.testing.assert_allclose(value, other_value, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(grad), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    # A slot off the mask: the same as a batch of the other one alone, and no gradient.
    half = jnp.asarray([True, False])
    value, grad = loss(raw, first, half)
    alone = jax.tree.map(lambda a: a[:1], (raw, first))
    expected = jax.jit(lambda raw, t: head.loss(raw, SIZES, t, t.slot_mask)[0])(*alone)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for leaf in jax.tree.leaves(grad):
        assert not np.asarray(leaf)[1].any()
