"""Exported files of whole models in ONNX Runtime and, where it is installed, OpenVINO.

JAXDET_REAL_DATA is the folder of the data.
"""

import os
from pathlib import Path

import golden_data
import hmnet_golden
import jax
import jax.numpy as jnp
import pytest
from yolo_models import golden_model

import jaxdet.api
from jaxdet import config_files
from jaxdet.exporting import check, inputs, onnx_file, programs, runtimes, write
from jaxdet.models import from_config

pytestmark = [
    pytest.mark.runtimes,
    # OpenVINO starts a process when it is imported, of which JAX warns.
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
]
ROOT = Path(os.environ.get("JAXDET_REAL_DATA", "."))
COCO = ROOT / "coco"


@pytest.fixture(scope="module")
def nano():
    cfg, skeleton, variables = jaxdet.api.open_weights(ROOT / "weights" / "yolox_nano.pth")
    return jaxdet.api.Model(cfg, skeleton, jax.tree.map(jnp.asarray, variables))


def _export(model, path, **form):
    return model.export(path, source=COCO / "images", annotations=COCO / "instances_8.json", **form)


@pytest.mark.data
@pytest.mark.skipif("JAXDET_REAL_DATA" not in os.environ, reason="JAXDET_REAL_DATA is not set")
@pytest.mark.parametrize("batch", [1, "any"])
def test_the_released_nano_finds_the_same_boxes_in_every_runtime(tmp_path, nano, batch):
    for found in _export(nano, tmp_path / "nano.onnx", batch=batch):
        assert found.boxes == found.found == found.matched > 300
        assert found.pixels <= 0.05
        assert found.score <= 1e-5
        # pycocotools on the boxes of the released system.
        assert found.ap == pytest.approx(0.4643, abs=5e-4)
        assert found.ap_of_jaxdet == pytest.approx(0.4643, abs=5e-4)


@pytest.mark.data
@pytest.mark.skipif("JAXDET_REAL_DATA" not in os.environ, reason="JAXDET_REAL_DATA is not set")
def test_the_released_nano_in_fewer_bits_loses_what_is_said(tmp_path, nano):
    for found in _export(nano, tmp_path / "half.onnx", dtype="float16"):
        assert found.ap == pytest.approx(found.ap_of_jaxdet, abs=2e-3)
    for found in _export(nano, tmp_path / "small.onnx", int8=True):
        assert found.ap_of_jaxdet - 0.12 < found.ap < found.ap_of_jaxdet
    half, small = ((tmp_path / name).stat().st_size for name in ("half.onnx", "small.onnx"))
    assert small < half < 2.5e6  # bytes; 3.6e6 in float32


@pytest.mark.parametrize("size", ["p5", "p6"])
def test_scaled_yolov4_gives_the_raw_outputs_of_jaxdet(tmp_path, size):
    skeleton, variables = golden_model("yolov4", f"{size}_nc4")
    program = programs.of_images(skeleton, jax.tree.map(jnp.asarray, variables), (256, 320))
    path = tmp_path / "m.onnx"
    onnx_file.write(path, program, True, {})
    given = [{"images": golden_data.image("forward_input", (1, 3, 256, 320)) * 255}]
    for name, run in runtimes.open_file(path).items():
        found = check.run(program, True, name, run, given, True)
        assert len(found.relative) == (3 if size == "p5" else 4)
        assert max(found.relative.values()) <= 5e-4, name


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif("JAXDET_REAL_DATA" not in os.environ, reason="JAXDET_REAL_DATA is not set")
@pytest.mark.parametrize("size", ["B1", "B3"])
def test_every_step_of_hmnet_gives_the_boxes_of_jaxdet(tmp_path, size):
    """Recipe weights amplify rounding, so jaxdet starts each step from the state that the file carried."""
    cfg = config_files.load(f"gen1_hmnet:{size.lower()}")
    program = write.program(cfg, *hmnet_golden.build(size), 4096)
    path = tmp_path / "m.onnx"
    onnx_file.write(path, program, False, {})
    recording = ROOT / "events" / "derived" / "dvxplorer_crop304x240_td.dat"
    run = runtimes.onnxruntime(path)
    found = check.run(
        program, False, size, run, inputs.steps(from_config.geometry(cfg), 4096, recording), True
    )
    assert found.calls == 118
    assert found.boxes > 10_000
    assert found.matched >= 0.995 * max(found.boxes, found.found)
    assert max(found.relative.values()) <= 1e-3
