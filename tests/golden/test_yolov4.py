"""Whole YOLOv4 models against the released implementation run on CPU."""

import golden_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yolo_models import assert_stats, golden_model, pixels, tiny

from jaxdet.inference import tta
from jaxdet.nn import functional
from jaxdet.nn.fold import fold
from jaxdet.ops import boxes as box_ops
from jaxdet.structs import Images
from jaxdet.weights import families, rules
from jaxdet.weights.torch import file as torch_file
from jaxdet.weights.torch import state_dict

# The reference's own float32 results are 2e-5 (raw) and 0.01 px from its float64 ones.
RAW, PIXELS, SCORE = 5e-4, 0.02, 1e-5


def forward(skeleton):
    """Compiled (variables, pixels) -> raw outputs, decoded rows (cx, cy, w, h, object, classes)."""

    @jax.jit
    def run(variables, images):
        model = functional.merge(skeleton, variables)
        raw = model.head(model.neck(model.backbone.features(images)))
        return raw, model.head.decode(raw)

    return run


def assert_rows(actual, expected):
    np.testing.assert_allclose(actual[..., :4], expected[..., :4], rtol=0, atol=PIXELS)
    np.testing.assert_allclose(actual[..., 4:], expected[..., 4:], rtol=0, atol=SCORE)


def assert_every(actual, expected, step, columns):
    """Every `step`th value of rows whose first four values are pixels."""
    flat = np.asarray(actual).reshape(-1)[::step]
    is_box = np.arange(0, np.asarray(actual).size, step) % columns < 4
    np.testing.assert_allclose(flat[is_box], expected[is_box], rtol=0, atol=PIXELS)
    np.testing.assert_allclose(flat[~is_box], expected[~is_box], rtol=0, atol=SCORE)


def assert_forward(raw, decoded, g):
    for i, level in enumerate(raw):
        assert level.shape == tuple(g[f"raw{i}_shape"])
        flat = np.asarray(level).reshape(-1)[::7]
        np.testing.assert_allclose(flat, g[f"raw{i}_every7"], rtol=0, atol=RAW)
        assert_stats(level, g[f"raw{i}_stats"], 1e-4)
    assert_stats(decoded, g["decoded_stats"], 1e-5)
    if "decoded" in g:
        assert_rows(np.asarray(decoded), g["decoded"])


def assert_folded_equal(skeleton, variables, images, raw, decoded):
    skeleton, variables = fold(skeleton, variables)
    other_raw, other = forward(skeleton)(variables, images)
    for a, b in zip(other_raw, raw, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)
    assert_rows(np.asarray(other), np.asarray(decoded))


def test_p6_forward_mirrored_and_folded():
    g = golden_data.load("yolo/forward_p6")
    skeleton, variables = golden_model("yolov4", "p6_nc4")
    run, images = forward(skeleton), pixels("p6-forward", g["input_shape"])
    raw, decoded = run(variables, images)
    assert_forward(raw, decoded, g)

    width = images.shape[2]
    mirrored = run(variables, tta.transform(images, tta.FLIP[1]))[1]
    boxes = tta.undo(box_ops.cxcywh_to_xyxy(mirrored[..., :4]), tta.FLIP[1], width)
    mirrored = jnp.concatenate([box_ops.xyxy_to_cxcywh(boxes), mirrored[..., 4:]], -1)
    assert_stats(jnp.concatenate([decoded, mirrored], 1), g["tta_stats"], 1e-5)
    if "tta_flip_half" in g:
        assert_rows(np.asarray(mirrored), g["tta_flip_half"])
    assert_folded_equal(skeleton, variables, images, raw, decoded)


@pytest.mark.parametrize(("name", "view"), [("ms83", tta.SCALES[1]), ("ms67", tta.SCALES[2])])
def test_scaled_inputs_equal_released(name, view):
    g = golden_data.load("yolo/forward_p6")
    view_in = tta.transform(pixels("p6-forward", g["input_shape"]), view) / 255
    nchw = np.asarray(view_in).transpose(0, 3, 1, 2)
    assert nchw.shape == tuple(g[f"{name}_input_shape"])
    np.testing.assert_allclose(nchw.reshape(-1)[::97], g[f"{name}_input_every97"], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "view"), [("ms83", tta.SCALES[1]), ("ms67", tta.SCALES[2])])
def test_p6_at_other_scales(name, view):
    g = golden_data.load("yolo/forward_p6")
    skeleton, variables = golden_model("yolov4", "p6_nc4")
    images = pixels("p6-forward", g["input_shape"])
    _, decoded = forward(skeleton)(variables, tta.transform(images, view))
    boxes = tta.undo(box_ops.cxcywh_to_xyxy(decoded[..., :4]), view, images.shape[2])
    decoded = jnp.concatenate([box_ops.xyxy_to_cxcywh(boxes), decoded[..., 4:]], -1)
    assert_stats(decoded, g[f"{name}_decoded_stats"], 1e-5)
    assert_every(decoded, g[f"{name}_decoded_every5"], 5, 9)


@pytest.mark.slow
def test_p7_forward_and_folded():
    g = golden_data.load("yolo/forward_p7")
    skeleton, variables = golden_model("yolov4", "p7_nc4")
    images = pixels("p7-forward", g["input_shape"])
    raw, decoded = forward(skeleton)(variables, images)
    assert_forward(raw, decoded, g)
    assert_folded_equal(skeleton, variables, images, raw, decoded)


@pytest.mark.parametrize("name", ["last_059", "last_059_strip", "last_059_syncbn", "soup"])
def test_tiny_model_of_a_released_file(name):
    file = golden_data.path(f"pt/{name}.pt")
    if not file.exists():
        pytest.skip(f"{file} is not there")
    block, skeleton, shapes = tiny()
    tensors = state_dict.find(torch_file.load(file)).state_dict
    variables, _ = rules.from_torch(tensors, families.of_config(block), shapes)
    g = golden_data.load("pt/expected")
    images = pixels("tiny-eval", (2, 3, 64, 128))
    run = forward(skeleton)
    assert_rows(np.asarray(run(variables, images)[1]), g[f"eval/{name}"])
    skeleton, variables = fold(skeleton, variables)
    assert_rows(np.asarray(forward(skeleton)(variables, images)[1]), g[f"eval/{name}_fused"])


def test_mirrored_image_is_detected_mirrored():
    file = golden_data.path("pt/soup.pt")
    block, skeleton, shapes = tiny()
    tensors = state_dict.find(torch_file.load(file)).state_dict
    variables, _ = rules.from_torch(tensors, families.of_config(block), shapes)
    images = pixels("tiny-eval", (2, 3, 64, 128))

    @jax.jit
    def detect(variables, images):
        detector = functional.merge(skeleton, variables)
        at_step, reset = jnp.zeros((2, 1), jnp.int32), jnp.ones(2, bool)
        return tta.predict(detector, Images(images), at_step, reset, tta.FLIP)

    one, other = detect(variables, images), detect(variables, images[:, :, ::-1])
    mask = np.asarray(one.det_mask)
    assert mask.any()
    np.testing.assert_array_equal(mask, other.det_mask)
    # Both see the same two images; only the order of the candidates and the rounding of the mirror differ.
    np.testing.assert_allclose(np.sort(one.scores[mask]), np.sort(other.scores[mask]), atol=1e-5)
    back = tta.undo(other.boxes, tta.FLIP[1], 128)
    area = [np.sort(np.asarray(box_ops.area(b))[mask]) for b in (one.boxes, back)]
    np.testing.assert_allclose(*area, rtol=1e-3)
