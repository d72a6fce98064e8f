import jax.numpy as jnp
import numpy as np

from jaxdet.ops import nms, nms_kernel


def _ranked(seed, count, levels):
    """Two images of boxes on a coarse grid: many are equal, and many overlaps are equal."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 4, (2, count, 2)) * 4
    boxes = np.concatenate([low, low + rng.integers(0, levels, low.shape) * 4], -1).astype(np.float32)
    labels = rng.integers(0, 2, (2, count)).astype(np.int32)
    mask = np.arange(count) < np.array([[count], [count // 3]])
    return tuple(jnp.asarray(a) for a in (boxes, labels, mask))


def test_keeps_what_the_loops_keep():
    for seed, levels in ((0, 3), (1, 6)):
        # IoUs of whole multiples of 4 pixels fall on 1/2 and 1/3 exactly: the threshold itself is no overlap.
        for threshold in (0.5, 1 / 3):
            boxes, labels, mask = _ranked(seed, 60, levels)
            kept = nms_kernel.suppress(boxes, labels, mask, threshold, interpret=True)
            for image in range(2):
                expected = nms.suppress(boxes[image], labels[image], mask[image], threshold)
                np.testing.assert_array_equal(kept[image], expected)
            assert 0 < kept.sum() < mask.sum()


def test_the_first_survivors_of_any_number_of_rows():
    """Three blocks of rows; all, a third or none of them are real; more survive than are wanted, or fewer."""
    boxes, labels, mask = _ranked(0, 150, 3)
    boxes = jnp.concatenate([boxes, boxes[:1]])
    mask = jnp.concatenate([mask, jnp.zeros_like(mask[:1])])
    one_class = jnp.zeros_like(labels[0])
    for threshold, limit in ((0.5, 100), (1 / 3, 3)):
        rows = nms_kernel.best(boxes, mask.sum(1), threshold, limit, interpret=True)
        for image in range(3):
            expected = np.flatnonzero(nms.suppress(boxes[image], one_class, mask[image], threshold))[:limit]
            found = np.asarray(rows[image])
            np.testing.assert_array_equal(found[found >= 0], expected)
            assert (found[len(expected) :] == -1).all()


def test_takes_float32_up_to_its_size():
    assert nms_kernel.takes(jnp.zeros((1, nms_kernel.MAX_CANDIDATES, 4)))
    assert not nms_kernel.takes(jnp.zeros((nms_kernel.MAX_CANDIDATES + 1, 4)))
    assert not nms_kernel.takes(jnp.zeros((4, 4), jnp.bfloat16))
