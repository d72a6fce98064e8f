"""HMNet at another size than that of its training."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet import config_files
from jaxdet.errors import InputError
from jaxdet.inference.resized import resized
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.ops import resize

CONFIG = Path(__file__).parents[2] / "integration" / "tiny_hmnet.py"


@pytest.mark.parametrize("size", [(480, 608), (260, 346), (240, 304)])
def test_latents_are_resized_and_everything_else_stays(size, caplog):
    caplog.set_level("INFO")
    cfg = runpy.run_path(str(CONFIG))["get_config"]()
    cfg.model.window = 16  # pixels
    _, variables = functional.split(from_config.build(cfg, 0))
    changed, skeleton, new = resized(cfg, variables, size)
    assert (changed.data.height, changed.data.width) == tuple(changed.model.image_size) == size
    assert (cfg.data.height, cfg.data.width) == (240, 304)
    shapes = functional.shapes(skeleton).params
    assert jax.tree.map(np.shape, new.params) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    latent, own = (v.params["backbone"]["memory1"].pop("init_latent") for v in (new, variables))
    grid = -(-size[0] // 16), -(-size[1] // 16)  # cells of 16 pixels
    expected = resize.bilinear(jnp.asarray(own).reshape(1, 15, 19, -1), grid)
    # Float64 here, float32 there.
    np.testing.assert_allclose(latent, np.reshape(expected, latent.shape), atol=1e-6)
    for one, two in zip(jax.tree.leaves(new.params), jax.tree.leaves(variables.params), strict=True):
        np.testing.assert_array_equal(one, two)
    assert f"{grid[1]}x{grid[0]} cells" in caplog.text


def test_models_of_images_are_refused():
    cfg = config_files.load("coco_yolox:nano")
    with pytest.raises(InputError, match="yolox takes --size"):
        resized(cfg, functional.Variables({}, {}), (240, 304))
