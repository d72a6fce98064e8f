"""A detector follows from its config, and a config whose parts disagree is refused in one line."""

import json

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from ml_collections import ConfigDict

from jaxdet import config, models
from jaxdet.errors import InputError
from jaxdet.models import from_config
from jaxdet.models.anchor_head import AnchorHead
from jaxdet.models.heads import DecoupledHead
from jaxdet.nn import functional
from jaxdet.structs import EventGeometry, Targets
from jaxdet.weights import families, stored_config

TINY = {"widths": (8,), "num_heads": (1,), "out_features": 8, "event_features": 4}


def _config(**changes):
    cfg = config.base()
    cfg.model = config.hmnet("b1", 2, **{**TINY, **changes})
    cfg.data = config.gen1()
    return cfg


def _backbone(cfg):
    skeleton, shapes = functional.abstract(lambda: from_config.build(cfg, 0))
    return functional.merge(skeleton, shapes).backbone


def test_sensor_step_and_cells_reach_the_model():
    cfg = _config(window=16, image_size=(64, 96))
    cfg.data.height, cfg.data.width, cfg.data.step_us = 64, 96, 10_000
    backbone = _backbone(cfg)
    assert backbone.geometry == EventGeometry(64, 96, 10_000, 16)
    assert backbone.grid == (4, 6)
    assert backbone.memory1.embed.geometry is backbone.geometry


def test_a_config_of_0_1_0_has_all_that_is_needed():
    stored = json.loads(_config().to_json())
    stored["data"]["kind"] = "gen1"
    assert _backbone(ConfigDict(stored_config.current(stored, "x"))).geometry == EventGeometry(240, 304)
    del stored["data"]["step_us"]
    assert _backbone(ConfigDict(stored_config.current(stored, "x"))).geometry.step_us == 5_000


def test_a_sensor_that_does_not_divide_into_cells_may_be_padded_to_whole_ones():
    cfg = _config(window=16, widths=(8,) * 3, num_heads=(1,) * 3, depths=(1,) * 3, periods=(1, 2, 4))
    cfg.model.image_size = (256, 320)
    backbone = _backbone(cfg)
    assert (backbone.geometry.size, backbone.grid) == ((240, 304), (16, 20))


@pytest.mark.parametrize(
    ("block", "values", "told"),
    [
        ("data", {"height": 480, "width": 640}, r"model.image_size is \(240, 304\), .* \(480, 640\)"),
        ("data", {"height": 200}, r"\(200, 304\)"),
        ("model", {"image_size": (244, 304)}, r"model.image_size is \(244, 304\), .* \(240, 304\)"),
        ("model", {"image_size": (240, 302)}, r"takes \(240, 304\), or up to \(240, 304\)"),
        ("data", {"step_us": 32_768}, "step of 32768 us, expected 1 to 32767; change data.step_us"),
        ("data", {"step_us": 0}, "step of 0 us"),
        ("data", {"kind": "images"}, "'hmnet', which reads events; data.kind is 'images'"),
        ("model", {"name": "yolox"}, "'yolox', which reads images; data.kind is 'events'"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(block, values, told):
    cfg = _config()
    cfg[block].update(values)
    with pytest.raises(InputError, match=told) as caught:
        from_config.build(cfg, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("warmup", ["segment", "recording"])
def test_warm_up_counts_as_the_windows_count_it(warmup):
    cfg = _config()
    cfg.data.warmup = warmup
    skeleton, shapes = functional.abstract(lambda: from_config.build(cfg, 0))
    assert functional.merge(skeleton, shapes).warm_up_once == (warmup == "recording")


def test_every_model_has_rules_for_its_released_weights():
    assert set(families.RULES) == set(models.MODELS)


@pytest.mark.parametrize("family", ["decoupled", "anchors"])
def test_a_head_names_the_parts_of_its_loss(family):
    if family == "decoupled":
        head = DecoupledHead([8], 2, hidden=8, strides=(8,), rngs=nnx.Rngs(0))
    else:
        head = AnchorHead([8], (((8, 8),),), (8,), 2, rngs=nnx.Rngs(0))
    features = [jnp.zeros((1, 4, 4, 8))]
    lead = (1, 3)
    targets = Targets(
        jnp.ones((*lead, 4)),
        jnp.zeros(lead, jnp.int32),
        *(jnp.ones(lead, bool), jnp.zeros(lead, bool)),
        *(jnp.zeros(1, jnp.int32), jnp.ones(1, bool)),
    )
    parts = jax.eval_shape(lambda f: head.loss(head(f), [(4, 4)], targets, jnp.ones(1, bool))[1], features)
    assert {name for name in parts if name.startswith("loss")} - {"loss_weight"} == set(head.loss_names)
    assert head.loss_names[-1] == "loss"


@pytest.mark.parametrize(("key", "value"), [("min_score", 2.0), ("min_score", -0.1), ("nms_iou", 1.5)])
def test_thresholds_beyond_their_range_are_refused(key, value):
    with pytest.raises(InputError, match=rf"model.{key} is {value:g}, expected 0 to 1"):
        from_config.build(_config(**{key: value}), 0)
