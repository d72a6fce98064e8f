"""Losses, gradients and batch statistics of whole models against the released implementations, in float64.

Batch statistics over a few cells amplify rounding: the released float32 run of P6 is itself 0.5 % off in
gradients.
"""

from functools import cache

import golden_data as gd
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yolo_models import few_classes, golden_model, tiny, yolov4_block
from yolo_training import assert_norms, batch_of, by_torch_key, make_gradient, wide, yolov4_batch

from jaxdet.nn import functional
from jaxdet.training import optim, sgd, state
from jaxdet.training.average import Averaging
from jaxdet.training.recipe import TrainingRecipe
from jaxdet.training.step import make_train_step
from jaxdet.weights import families
from jaxdet.weights import rules as key_rules


def image_of(name, shape):
    """Float64 pixels in 0..255 of an image whose released form is float32 in [0, 1]."""
    return gd.image(name, tuple(shape)).transpose(0, 2, 3, 1).astype(np.float64) * 255


def yolox_batch(rows, pixels):
    """A batch of padded rows [B, M, (class, cx, cy, w, h)] in pixels, of which empty ones are padding."""
    real = rows.sum(-1) > 0
    image = np.broadcast_to(np.arange(len(rows))[:, None], real.shape)[real]
    return batch_of(pixels, image, rows[real][:, 0], rows[real][:, 1:].astype(np.float64)), real.sum()


@pytest.mark.slow
def test_yolox_loss_and_gradients_with_and_without_l1():
    g = gd.load("yolox/yolox")
    block, skeleton, variables = few_classes("nano", 4)
    rules = families.of_config(block)
    gradient = make_gradient(skeleton)
    for late in (0, 1):
        prefix = f"loss_l1_{late}__"
        with jax.enable_x64(True):
            # Released pixels are float32 in 0..255.
            pixels = (
                (gd.image("yolox-train", (2, 3, 128, 160)) * 255).transpose(0, 2, 3, 1).astype(np.float64)
            )
            batch, num_labels = yolox_batch(g[f"{prefix}labels"], pixels)
            grads, parts, _ = gradient(wide(variables), batch, l1_weight=jnp.asarray(float(late)))
        # The released run is float32. Its loss is as exact as float64's on equal outputs, but rounding in the
        # network moves outputs by 5e-5 and parts by up to 3e-6, another way with every choice of convolution
        # kernels.
        close = 1e-6 if gd.SEED == 0 else 5e-6
        names = {
            "total": ("loss", close),
            "iou": ("loss_iou", close),
            "conf": ("loss_obj", close),
            "cls": ("loss_cls", 2 * close),
            "l1": ("loss_bbox", 3 * close),
        }
        for theirs, (ours, rtol) in names.items():
            np.testing.assert_allclose(parts[ours], g[f"{prefix}{theirs}_loss"], rtol=rtol, err_msg=theirs)
        assert int(parts["num_positives"]) / num_labels == g[f"{prefix}num_fg"]
        assert_norms(grads, rules, g[f"{prefix}param_names"], g[f"{prefix}grad_norms"], 1e-4)


@pytest.mark.slow
def test_p6_loss_gradients_and_statistics():
    g = gd.load("yolo/loss_p6_train")
    skeleton, variables = golden_model("yolov4", "p6_nc4", dtype=None)
    rules = families.of_config(yolov4_block("p6"))
    with jax.enable_x64(True):
        images = image_of("p6-train", g["input_shape"])
        batch = yolov4_batch(images, g["targets"].astype(np.float64))
        grads, parts, _ = make_gradient(skeleton)(wide(variables), batch)
    items = [parts[k] for k in ("loss_box", "loss_obj", "loss_cls", "loss")]
    np.testing.assert_allclose(items, g["items_fp64"], rtol=1e-6)
    scaled = jax.tree.map(lambda a: np.asarray(a) * len(images), grads)
    assert_norms(scaled, rules, g["param_names"], g["grad_norms_fp64"], 1e-4)
    found = by_torch_key(scaled, rules)
    for key in g:
        if key.startswith("grad64__"):
            name, expected = key.removeprefix("grad64__"), g[key]
            np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_p6_in_float32_is_as_near_as_the_released_float32():
    """Loss parts and norms of gradients within 2 %; the released float32 run is itself up to 0.5 % off in
    gradients."""
    g = gd.load("yolo/loss_p6_train")
    skeleton, variables = golden_model("yolov4", "p6_nc4", dtype=None)
    rules = families.of_config(yolov4_block("p6"))
    images = image_of("p6-train", g["input_shape"]).astype(np.float32)
    grads, parts, _ = make_gradient(skeleton)(variables, yolov4_batch(images, g["targets"]))
    items = [parts[k] for k in ("loss_box", "loss_obj", "loss_cls", "loss")]
    np.testing.assert_allclose(items, g["items"], rtol=0.02)
    scaled = jax.tree.map(lambda a: np.asarray(a) * len(images), grads)
    assert_norms(scaled, rules, g["param_names"], g["grad_norms"], 0.02)


def constant_rates(count):
    return sgd.Rates(*(jnp.asarray(v) for v in (0.01, 0.01, 0.937)))


TINY_RECIPE = TrainingRecipe(
    sgd.sgd(constant_rates, 5e-4), optim.constant(0.01), Averaging(), sum_images=True
)


@cache
def tiny_step():
    return jax.jit(make_train_step(tiny()[1], TINY_RECIPE))


PARTS = ("loss_box", "loss_obj", "loss_cls", "loss")


def descend(variables, seed, rows_of_steps):
    """Parts of the loss at every step [steps, 4], and the state afterwards as numpy arrays."""
    current = state.create(variables, TINY_RECIPE.optimizer, ema=True)
    losses = []
    for i, rows in enumerate(rows_of_steps):
        image = gd.image(f"tiny{seed}-{i}", (2, 3, 64, 96)).transpose(0, 2, 3, 1).astype(np.float64) * 255
        current, _, parts = tiny_step()(current, (), yolov4_batch(image, rows.astype(np.float64)))
        losses.append([float(parts[k]) for k in PARTS])
    return np.array(losses), jax.tree.map(np.asarray, current)


# The released runs are float32. Noise of this size in the weights moves a first loss as far as theirs is off.
# Where a kink may lie between them and us in another set is not known: more noise finds it.
NOISE = 1e-7 if gd.SEED == 0 else 1e-5

# Steps of seed 0 that rounding does not move beyond the tolerance.
WELL_CONDITIONED = {0: 3, 1: 2, 2: 2} if gd.SEED == 0 else {}


def rounded(variables, draw):
    """Weights with relative noise."""
    rng = np.random.default_rng(draw)
    params = jax.tree.map(lambda a: a * (1 + NOISE * rng.standard_normal(a.shape)), variables.params)
    return variables._replace(params=params)


def across_the_kink(rows):
    """Rows of the steps of run 1 of seed 0, the second box 0.0004 pixels further to the left.

    The right edge of a predicted box lies 0.0003 pixels left of the labelled one, and right of it in float32,
    where it is off by 0.0006. The maximum in CIoU passes its gradient to the other side then: gradients
    change by a tenth, as does the second loss.
    """
    first = rows[0].astype(np.float64)
    first[1, 2] -= 0.0004 / 96
    return [first, *rows[1:]]


def assert_within_rounding(ours, noisy, expected, rtol, name=""):
    """Equal up to `rtol` of the largest value, or to twice what rounding does to ours."""
    spread = np.max([np.abs(other - ours).max() for other in noisy])
    allowed = max(rtol * np.abs(expected).max(), 2 * spread)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=allowed, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("run", [0, 1, 2])
def test_descent_with_average_follows_the_released_trajectory(run):
    """Runs of 3, 5 and 7 steps: constant rates, no warm-up, every batch an update.

    The released runs are float32, and full rates from random weights are chaotic: a difference grows 20 to
    100 times a step in runs 1 and 2, from 1e-12 on and in the released implementation's own arithmetic alike,
    so that no two float32 runs agree beyond the third step. What rounding does to ours is measured, and
    allowed where it exceeds the tolerance; a step that it moves by more than a hundredth is the last that is
    compared.
    """
    seed, file = gd.SEED + run, f"last_0{59 + 10 * run:02d}"
    g = gd.load("pt/expected")
    block, _, shapes = tiny()
    rules = families.of_config(block)
    entries = [
        (k.split("/", 1)[1], list(a.shape), str(a.dtype)) for k, a in g.items() if k.startswith(f"{file}/")
    ]
    start = gd.yolo_weights(entries, rules.derived({}), seed)
    variables, _ = key_rules.from_torch(start, rules, shapes)

    expected = g[f"train{run}/loss_items_decay"]
    rows = [g[f"train{run}/targets{i}"] for i in range(len(expected))]
    if (gd.SEED, run) == (0, 1):
        rows = across_the_kink(rows)
    with jax.enable_x64(True):
        variables = wide(variables)
        losses, ours = descend(variables, seed, rows)
        noise = [descend(rounded(variables, draw), seed, rows) for draw in range(4)]
        decay = 1 - np.asarray(TINY_RECIPE.averaging.share(jnp.arange(1, len(rows) + 1)))
    np.testing.assert_allclose(decay, expected[:, 5], rtol=0, atol=1e-12)
    np.testing.assert_allclose(expected[:, 0], 2 * expected[:, 4], rtol=1e-6)
    steps = WELL_CONDITIONED.get(run, 1)
    np.testing.assert_allclose(losses[:steps], expected[:steps, 1:5], rtol=1e-5)
    for i in range(steps, len(rows)):
        for part in range(4):
            others = [other[i, part] for other, _ in noise]
            assert_within_rounding(losses[i, part], others, expected[i, 1 + part], 1e-5, f"{PARTS[part]} {i}")
        if max(np.abs(other[i] / losses[i] - 1).max() for other, _ in noise) > 1e-2:
            return

    def entries_of(which):
        ends = [ours, *(other for _, other in noise)]
        return [key_rules.to_torch(which(end), rules) for end in ends]

    assert_entries(entries_of(state.variables), g, file)
    if run == 0:
        live = entries_of(lambda end: functional.Variables(end.params, end.batch_stats))
        assert_entries(live, g, "live")


def assert_entries(found, g, name):
    """The entries of our end and those of the noisy ones against the released."""
    ours, *noisy = found
    for key, value in ours.items():
        expected = g[f"{name}/{key}"]
        if np.issubdtype(expected.dtype, np.integer):
            assert value == expected, key
        else:
            assert_within_rounding(value, [other[key] for other in noisy], expected, 1e-4, key)
