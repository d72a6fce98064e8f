import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import nms


def plain(boxes, scores, labels, mask, threshold):
    """Greedy suppression as a loop."""
    kept = []
    for i in sorted(np.flatnonzero(mask), key=lambda i: -scores[i]):
        for j in kept:
            low, high = np.maximum(boxes[i, :2], boxes[j, :2]), np.minimum(boxes[i, 2:], boxes[j, 2:])
            inter = np.prod(np.maximum(high - low, 0))
            union = np.prod(boxes[i, 2:] - boxes[i, :2]) + np.prod(boxes[j, 2:] - boxes[j, :2]) - inter
            if labels[i] == labels[j] and inter / union > threshold:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("real", [0, 1, 300, 700])
def test_equals_the_plain_loop_over_several_blocks(real):
    rng = np.random.default_rng(real)
    low = rng.uniform(0, 60, (2, 700, 2))
    boxes = np.concatenate([low, low + rng.uniform(4, 20, low.shape)], -1).astype(np.float32)
    scores = rng.random((2, 700)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 700)).astype(np.int32)
    mask = np.arange(700)[None] < np.array([[real], [real // 2]])
    order, keep = nms.nms(*(jnp.asarray(a) for a in (boxes, scores, labels, mask)), 0.5)
    for lane in range(2):
        chosen = np.asarray(order[lane])[np.asarray(keep[lane])]
        assert chosen.tolist() == plain(boxes[lane], scores[lane], labels[lane], mask[lane], 0.5)


def test_a_chain_of_overlaps_is_decided_from_the_top():
    # Box i overlaps only its neighbours: 0 removes 1, so 1 cannot remove 2.
    left = jnp.arange(9.0) * 4
    boxes = jnp.stack([left, jnp.zeros(9), left + 10, jnp.full(9, 10.0)], -1)
    scores = jnp.linspace(0.9, 0.1, 9)
    _, keep = nms.nms(boxes, scores, jnp.zeros(9, jnp.int32), jnp.ones(9, bool), 0.4)
    assert keep.tolist() == [True, False] * 4 + [True]


def test_works_in_float64():
    with jax.enable_x64(True):
        boxes = jnp.array([[0.0, 0, 1, 1], [0, 0, 1, 1 + 1e-12]], jnp.float64)
        _, keep = nms.nms(boxes, jnp.array([0.5, 0.6]), jnp.zeros(2, jnp.int32), jnp.ones(2, bool), 0.5)
    assert keep.tolist() == [True, False]
