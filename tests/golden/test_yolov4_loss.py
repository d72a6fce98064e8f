"""YOLOv4's assignment and loss against the released implementation."""

from functools import cache

import golden_data as gd
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet import config
from jaxdet.models.anchor_head import AnchorHead, AnchorLoss
from jaxdet.ops import assign, losses
from jaxdet.ops import boxes as box_ops
from jaxdet.structs import Targets

CASES = sorted(k.removesuffix("__targets") for k in gd.load("yolo/loss_only") if k.endswith("__targets"))
SLOTS, BOXES = 2, 64  # every case is padded to the same shapes


def anchors_of(case):
    return config.YOLOV4_SIZES[case.split("_")[0]]["anchors"]


@cache
def head_of(size, num_classes, hyp, share):
    anchors = anchors_of(size)
    box, cls, cls_pw, objectness, obj_pw, most, gamma = hyp
    # The stored class weight is already the one of `num_classes` classes.
    terms = AnchorLoss(box, objectness, cls * 80 / num_classes, (obj_pw, cls_pw), most, share, gamma)
    strides = [8 << i for i in range(len(anchors))]
    head = AnchorHead([1] * len(anchors), anchors, strides, num_classes, rngs=nnx.Rngs(0), terms=terms)

    @jax.jit
    def run(raw, targets):
        def loss(raw):
            return head.loss(raw, None, targets, targets.slot_mask)

        return jax.value_and_grad(loss, has_aux=True)(raw)

    return run


def targets_of(rows, shape, num_images):
    """Targets [S, M, ...] of rows (image, class, cx, cy, w, h) in fractions of the image."""
    boxes, labels = np.zeros((SLOTS, BOXES, 4), np.float32), np.zeros((SLOTS, BOXES), np.int32)
    mask = np.zeros((SLOTS, BOXES), bool)
    pixels = rows[:, 2:] * np.asarray(shape, np.float32)[[1, 0, 1, 0]]
    for image in range(num_images):
        own = rows[:, 0] == image
        count = own.sum()
        boxes[image, :count] = box_ops.cxcywh_to_xyxy(jnp.asarray(pixels[own]))
        labels[image, :count], mask[image, :count] = rows[own, 1], True
    arrays = (boxes, labels, mask, np.zeros_like(mask), np.zeros(SLOTS, np.int32))
    return Targets(*(jnp.asarray(a) for a in arrays), jnp.arange(SLOTS) < num_images)


def predictions(case, shape, anchors):
    b, height, width, num_classes = shape
    return [
        gd.normal(f"{case}-p{i}", (b, len(level), height // (8 << i), width // (8 << i), num_classes + 5))
        for i, level in enumerate(anchors)
    ]


match = jax.jit(assign.anchor_ratio, static_argnames=("size", "most"))


@pytest.mark.parametrize("case", CASES)
def test_targets_equal_released(case):
    g, anchors = gd.load("yolo/loss_only"), anchors_of(case)
    rows, shape = g[f"{case}__targets"], g[f"{case}__shape"].tolist()
    most = float(g[f"{case}__hyp"][5])
    for i, level in enumerate(anchors):
        size = (shape[1] >> (3 + i), shape[2] >> (3 + i))
        cells = np.zeros((BOXES, 4), np.float32)
        cells[: len(rows)] = rows[:, 2:] * np.asarray(size, np.float32)[[1, 0, 1, 0]]
        pixels = jnp.asarray(level, jnp.float32) / (8 << i)
        found = match(jnp.asarray(cells), jnp.arange(BOXES) < len(rows), pixels, size=size, most=most)
        _, anchor, target = np.nonzero(found.mask)
        mask = np.asarray(found.mask)
        cell_row, cell_column = np.asarray(found.row)[mask], np.asarray(found.column)[mask]
        image, label = rows[target, 0], rows[target, 1]
        index = np.stack([image, anchor, cell_row, cell_column, label], -1)
        np.testing.assert_array_equal(index, g[f"{case}__L{i}_b_a_gj_gi_cls"])
        box = np.concatenate([np.asarray(found.box)[mask], np.asarray(pixels)[anchor]], -1)
        np.testing.assert_array_equal(box, g[f"{case}__L{i}_tbox_anchor"])


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_equal_released(case):
    g, anchors = gd.load("yolo/loss_only"), anchors_of(case)
    shape = g[f"{case}__shape"].tolist()
    b, hyp, share = shape[0], tuple(g[f"{case}__hyp"].tolist()), float(g[f"{case}__gr"])
    run = head_of(case.split("_")[0], shape[3], hyp, share)
    raw = [np.resize(p, (SLOTS, *p.shape[1:])) for p in predictions(case, shape, anchors)]
    targets = targets_of(g[f"{case}__targets"], shape[1:3], b)
    (total, parts), grads = run([jnp.asarray(p) for p in raw], targets)

    found = [parts[k] for k in ("loss_box", "loss_obj", "loss_cls", "loss")]
    # Both are float32 sums over up to 60 000 cells.
    np.testing.assert_allclose(found, g[f"{case}__items"], rtol=1e-5)
    np.testing.assert_allclose(total * b, g[f"{case}__loss"][0], rtol=1e-5)
    for i, grad in enumerate(grads):
        grad = np.asarray(grad) * b
        assert not grad[b:].any()
        expected = g[f"{case}__L{i}_grad_stats"]
        np.testing.assert_allclose(np.linalg.norm(grad[:b].astype(np.float64)), expected[2], rtol=1e-5)
        image, a, y, x, _ = g[f"{case}__L{i}_b_a_gj_gi_cls"].T
        matched = g[f"{case}__L{i}_grad_matched"]
        np.testing.assert_allclose(grad[image, a, y, x], matched, rtol=2e-4, atol=1e-6)
        if f"{case}__L{i}_grad_every3" in g:
            every = g[f"{case}__L{i}_grad_every3"]
            np.testing.assert_allclose(grad[:b].reshape(-1)[::3], every, rtol=2e-4, atol=1e-6)


def test_complete_iou_and_gradient_equal_released():
    g = gd.load("yolo/loss_only")
    a, b = (jnp.asarray(g[f"iou__box{i}_xywh"]) for i in (1, 2))
    value, pull = jax.vjp(lambda a: losses.ciou(a, b), a)
    np.testing.assert_allclose(value, g["iou__CIoU"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pull(jnp.ones_like(value))[0], g["iou__CIoU_grad"], rtol=1e-4, atol=1e-6)
