"""YOLO models of the configured sizes with the golden weights."""

import json
from functools import cache

import golden_data
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdet import config, models
from jaxdet.nn import functional
from jaxdet.weights import families, rules

# golden/pt/tiny.yaml
TINY = {
    "stem": 0,
    "stages": ((16, 0), (32, 2), (32, 1), (64, 2)),
    "neck": (32, 32),
    "neck_depths": (2, 1),
    "width": 0.25,
    "anchors": (((13, 17), (31, 25)), ((48, 102), (119, 96))),
}


def abstract(block):
    """Skeleton and shapes of a config's model block; equal blocks share theirs, which takes seconds to
    trace."""
    return _abstract(block.to_json())


@cache
def _abstract(text):
    arguments = json.loads(text)
    name = arguments.pop("name")
    return functional.abstract(lambda: models.build(name, rngs=nnx.Rngs(0), **arguments))


@cache
def tiny():
    """Configuration, skeleton and shapes of the model of golden/pt."""
    block = yolov4_block("tiny")
    return block, *abstract(block)


def yolov4_block(size, num_classes=4):
    if size == "tiny":
        return config.block(name="yolov4", num_classes=num_classes, **TINY)
    return config.yolov4(size, num_classes)


def golden_abstract(name):
    """Shapes of the YOLOv4 `tiny`, `p6_nc4`, ..."""
    size, _, classes = name.partition("_nc")
    return abstract(yolov4_block(size, int(classes or 4)))[1]


@cache
def golden_model(family, name, dtype="float32"):
    """Skeleton and variables of `p6_nc4`, `nano`, ... with the weights of the recipe; dtype None: as the
    pixels."""
    entries = golden_data.manifest(family)[name]["state_dict"]
    if family == "yolox":
        block, constants = config.yolox(name, 80), {}
    else:
        size, classes = name.split("_nc")
        block = yolov4_block(size, int(classes))
        block = config.block(**{**block, "dtype": dtype})
        constants = families.of_config(block).derived({})
    skeleton, shapes = abstract(block)
    state_dict = golden_data.yolo_weights(entries, constants)
    variables, _ = rules.from_torch(state_dict, families.of_config(block), shapes)
    return skeleton, variables


@cache
def few_classes(name, num_classes):
    """Block, skeleton and variables of a YOLOX of fewer classes than the manifest's, with the weights of the
    recipe."""
    entries = []
    for key, shape, dtype in golden_data.manifest("yolox")[name]["state_dict"]:
        entries.append((key, [num_classes, *shape[1:]] if ".cls_preds." in key else shape, dtype))
    block = config.yolox(name, num_classes, dtype=None)
    skeleton, shapes = abstract(block)
    variables, _ = rules.from_torch(golden_data.yolo_weights(entries), families.of_config(block), shapes)
    return block, skeleton, variables


def pixels(name, shape):
    """The golden image as the model takes it, [B, H, W, 3] in 0..255."""
    return jnp.asarray(golden_data.image(name, tuple(shape)).transpose(0, 2, 3, 1) * 255)


def assert_stats(actual, expected, rtol):
    """Mean, deviation and norm; the mean's tolerance is relative to the deviation."""
    actual = np.asarray(actual, np.float64)
    mean, std, norm = expected
    assert abs(actual.mean() - mean) <= rtol * max(std, abs(mean))
    np.testing.assert_allclose([actual.std(), np.linalg.norm(actual)], [std, norm], rtol=rtol)
