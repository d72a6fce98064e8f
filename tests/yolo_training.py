"""Training batches of the golden cases, and one compiled loss and gradient in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdet.nn import functional
from jaxdet.ops import boxes as box_ops
from jaxdet.structs import Batch, Images, Targets
from jaxdet.weights import rules as key_rules


def batch_of(pixels, images, labels, boxes, room: int = 16) -> Batch:
    """`pixels` [B, H, W, 3] and, for every box, its image, label and (cx, cy, w, h) in pixels."""
    num = len(pixels)
    xyxy = np.asarray(box_ops.cxcywh_to_xyxy(jnp.asarray(boxes)))
    arrays = np.zeros((num, 1, room, 4), xyxy.dtype), np.zeros((num, 1, room), np.int32)
    mask = np.zeros((num, 1, room), bool)
    for image in range(num):
        own = np.asarray(images) == image
        count = own.sum()
        arrays[0][image, 0, :count], arrays[1][image, 0, :count] = xyxy[own], labels[own]
        mask[image, 0, :count] = True
    slots = np.zeros((num, 1), np.int32), np.ones((num, 1), bool)
    targets = Targets(*(jnp.asarray(a) for a in (*arrays, mask, np.zeros_like(mask), *slots)))
    source = jnp.zeros((num, 1, 2), jnp.int32)
    return Batch(Images(jnp.asarray(pixels)), targets, jnp.ones(num, bool), source)


def yolov4_batch(pixels, rows) -> Batch:
    """A batch of rows (image, class, cx, cy, w, h) in fractions of the image."""
    height, width = pixels.shape[1:3]
    size = np.asarray([width, height, width, height], pixels.dtype)
    return batch_of(pixels, rows[:, 0], rows[:, 1], rows[:, 2:] * size)


def wide(tree):
    """Floating-point leaves as float64; the caller has enabled 64-bit mode."""
    return jax.tree.map(lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def make_gradient(skeleton):
    """Jitted (variables, batch, terms) -> gradients, metrics, batch statistics afterwards."""

    @jax.jit
    def gradient(variables, batch, **terms):
        def loss(params):
            model = functional.merge(skeleton, functional.Variables(params, variables.batch_stats))
            total, metrics, _ = model.loss(batch, (), **terms)
            return total, (metrics, functional.batch_stats(model))

        (_, (metrics, stats)), grads = jax.value_and_grad(loss, has_aux=True)(variables.params)
        return grads, metrics, stats

    return gradient


def by_torch_key(params, rules) -> dict[str, np.ndarray]:
    """A tree like the parameters under the released names."""
    found = key_rules.to_torch(functional.Variables(params, {}), rules)
    return {k: a for k, a in found.items() if rules.reason_to_ignore(k) is None}


def assert_norms(grads, rules, names, norms, rtol):
    """Norms of gradients, those that vanish against the largest of all."""
    found = by_torch_key(grads, rules)
    assert set(found) == set(names.tolist())
    actual = [np.linalg.norm(found[name]) for name in names.tolist()]
    np.testing.assert_allclose(actual, norms, rtol=rtol, atol=1e-9 * norms.max())
