"""Assignment, loss and suppression of HMNet's head against the released implementation."""

import golden_data as gd
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet.models.heads import DecoupledHead
from jaxdet.ops import boxes as box_ops
from jaxdet.ops import nms
from jaxdet.ops.assign import HMNET_RULE
from jaxdet.structs import Targets


def targets_of(rows, num_images):
    """Targets [S, M, ...] of golden rows (image, x1, y1, x2, y2, class, ignore)."""
    counts = np.bincount(rows[:, 0], minlength=num_images)
    boxes = np.zeros((num_images, counts.max() + 2, 4), np.float32)
    labels = np.zeros(boxes.shape[:2], np.int32)
    box_mask, ignore = np.zeros(boxes.shape[:2], bool), np.zeros(boxes.shape[:2], bool)
    for image in range(num_images):
        own = rows[rows[:, 0] == image]
        boxes[image, : len(own)], labels[image, : len(own)] = own[:, 1:5], own[:, 5]
        box_mask[image, : len(own)], ignore[image, : len(own)] = True, own[:, 6]
    arrays = (boxes, labels, box_mask, ignore, np.zeros(num_images, np.int32), np.ones(num_images, bool))
    return Targets(*(jnp.asarray(a) for a in arrays))


@pytest.mark.parametrize("prefix", ["neg", "masked"])
def test_simota_and_loss(prefix):
    g = gd.load("hmnet/simota_loss")
    head = DecoupledHead(
        [32] * 3,
        2,
        32,
        g["strides"].tolist(),
        rngs=nnx.Rngs(0),
        stem=False,
        rule=HMNET_RULE,
        integer_boxes=True,
        ignored_as_background=prefix == "neg",
    )
    sizes = [tuple(s) for s in g["sizes"].tolist()]
    raw, targets = jnp.asarray(g["raw"]), targets_of(g["gt"], len(g["raw"]))

    def loss(raw):
        total, parts = head.loss(raw, sizes, targets, targets.slot_mask)
        return total, parts

    (total, parts), grad = jax.jit(jax.value_and_grad(loss, has_aux=True))(raw)
    for name in ("loss_cls", "loss_bbox", "loss_obj", "loss_iou"):
        np.testing.assert_allclose(parts[name], g[f"{prefix}_{name}"], rtol=1e-5, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(total, g[f"{prefix}_loss"], rtol=1e-5)
    expected = g[f"{prefix}_grad_raw"]
    np.testing.assert_allclose(grad, expected, atol=1e-4 * np.abs(expected).max())

    box_mask = targets.box_mask & ~(targets.ignore_mask & (prefix == "neg"))
    found = head.assign(raw, head.decode(raw, sizes), sizes, targets.boxes, targets.labels, box_mask)
    for image in range(len(raw)):
        anchors = np.flatnonzero(found.positive[image])
        if f"{prefix}_img{image}_fg_anchor" not in g:
            assert len(anchors) == 0
            continue
        np.testing.assert_array_equal(anchors, g[f"{prefix}_img{image}_fg_anchor"])
        # Golden indices count the boxes that are left; ours count the slots of the padded list.
        kept = np.flatnonzero(box_mask[image])
        own = np.asarray(found.box[image])[anchors]
        np.testing.assert_array_equal(own, kept[g[f"{prefix}_img{image}_gt_index"]])
        np.testing.assert_array_equal(targets.labels[image][own], g[f"{prefix}_img{image}_class"])
        iou = np.asarray(found.iou[image])[anchors]
        np.testing.assert_allclose(iou, g[f"{prefix}_img{image}_iou"], atol=2e-6)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_suppression_keeps_the_same_boxes_in_the_same_order(index):
    g = gd.load("hmnet/nms")
    rows, expected = g[f"pred{index}"], g[f"det{index}"]
    boxes = box_ops.cxcywh_to_xyxy(jnp.asarray(rows[:, :4]))
    best = rows[:, 5:].max(1)
    scores = jnp.asarray(rows[:, 4] * best)
    labels = jnp.asarray(rows[:, 5:].argmax(1), jnp.int32)
    order, keep = nms.nms(boxes, scores, labels, scores >= 0.01, 0.65)
    chosen = np.asarray(order)[np.asarray(keep)]
    np.testing.assert_allclose(np.asarray(boxes)[chosen], expected[:, :4], rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(labels)[chosen], expected[:, 6])
    np.testing.assert_allclose(np.asarray(scores)[chosen], expected[:, 4] * expected[:, 5], rtol=1e-6)
