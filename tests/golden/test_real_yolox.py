"""The trained YOLOX-nano on real images against ONNX Runtime. JAXDET_REAL_DATA is the folder of the data."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yolo_models import abstract

from jaxdet import config, convert
from jaxdet.nn import functional
from jaxdet.weights import checkpoint

pytestmark = pytest.mark.data
ROOT = os.environ.get("JAXDET_REAL_DATA")


@pytest.mark.skipif(ROOT is None, reason="JAXDET_REAL_DATA is not set")
def test_converted_nano_equals_onnx_runtime(tmp_path):
    root, out = Path(ROOT or ""), tmp_path / "nano"
    configs = Path(__file__).parents[2] / "configs"
    flags = [
        f"--config={configs}/coco_yolox.py:nano",
        f"--torch={root}/weights/yolox_nano.pth",
        f"--out={out}",
    ]
    assert convert.main(flags) == 0
    variables, _ = checkpoint.load_weights(out)
    skeleton, _ = abstract(config.yolox("nano", 80))

    @jax.jit
    def run(variables, pixels):
        model = functional.merge(skeleton, variables)
        raw = model.head(model.neck(model.backbone.features(pixels)))
        return jnp.concatenate([raw[..., :4], jax.nn.sigmoid(raw[..., 4:])], -1)

    with np.load(root / "reference/yolox_nano_onnxruntime.npz") as g:
        for name in [k for k in g.files if k.startswith("input")]:
            pixels = jnp.asarray(g[name].transpose(1, 2, 0))[None]
            expected = g[name.replace("input", "output")]
            # The released code itself is within 1.6e-4 of it.
            np.testing.assert_allclose(run(variables, pixels)[0], expected, rtol=0, atol=2e-4)
