"""Exported files of whole models in ONNX Runtime and, where it is installed, OpenVINO.

JAXDET_REAL_DATA is the folder of the data.
"""

import os
from pathlib import Path

import golden_data
import hmnet_golden
import jax
import jax.numpy as jnp
import numpy as np
import onnx_float64
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
RECORDING = ROOT / "events" / "derived" / "dvxplorer_crop304x240_td.dat"


@pytest.fixture(scope="module")
def nano():
    cfg, skeleton, variables = jaxdet.api.open_weights(ROOT / "weights" / "yolox_nano.pth")
    return jaxdet.api.Model(cfg, skeleton, jax.tree.map(jnp.asarray, variables))


def _export(model, path, **form):
    return model.export(path, source=COCO / "images", annotations=COCO / "instances_8.json", **form)


def _written(path, program):
    onnx_file.write(path, program, False, {})
    return onnx_float64.onnx.load(str(path))


def _widened(leaf):
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _assert_same_but_for_rounding(single, double):
    """Both graphs have the same nodes, and weights that differ by a few roundings of float32."""
    (nodes, weights), (wide_nodes, wide_weights) = map(onnx_float64.structure, (single, double))
    assert nodes == wide_nodes
    for a, b in zip(weights, wide_weights, strict=True):
        if a.dtype.kind == "f" and a.size:
            largest = np.abs(b[np.isfinite(b)]).max(initial=0)
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * largest)
        else:
            np.testing.assert_array_equal(a, b)


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
    run = runtimes.onnxruntime(path)
    steps = inputs.steps(from_config.geometry(cfg), 4096, RECORDING)
    found = check.run(program, False, size, run, steps, True)
    assert found.calls == 118
    assert found.boxes > 10_000
    assert found.matched >= 0.995 * max(found.boxes, found.found)
    assert max(found.relative.values()) <= 1e-3


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif("JAXDET_REAL_DATA" not in os.environ, reason="JAXDET_REAL_DATA is not set")
def test_two_runs_of_hmnet_in_float64_never_part(tmp_path):
    """Recipe weights amplify rounding until runs in float32 part ways; the same graph in float64 follows
    jaxdet to the last step, each with a state of its own."""
    cfg = config_files.load("gen1_hmnet:b1")
    single = _written(tmp_path / "single.onnx", write.program(cfg, *hmnet_golden.build("B1"), 4096))
    with jax.enable_x64(True):
        skeleton, variables = hmnet_golden.build("B1", dtype="float64")
        program = write.program(cfg, skeleton, jax.tree.map(_widened, variables), 4096)
        double = _written(tmp_path / "double.onnx", program)
        _assert_same_but_for_rounding(single, double)
        compared = _two_runs(program, double, inputs.steps(from_config.geometry(cfg), 4096, RECORDING))
    assert compared.calls == 118
    assert compared.boxes == compared.found == compared.matched > 1000
    # A rounding of float64 is 1e-9 of one of float32, with which latents part by some percent.
    assert compared.pixels <= 1e-6
    assert compared.score <= 1e-9
    assert max(compared.drift.values()) <= 1e-9


def _two_runs(program, model, steps):
    """The graph beside jaxdet, which share no state; boxes of every 13th step, of 118 the last as well."""
    names = {onnx_file.output_name(key, program.state): key for key in program.state}
    runs = [onnx_float64.evaluator(model), onnx_float64.evaluator(model, list(names))]
    references = [jax.jit(program.detect), jax.jit(lambda given: program.propose(given)[2])]
    result = check.Comparison("float64")
    shapes = {key: program.inputs[key] for key in program.state}
    mine = theirs = {key: np.zeros(of.shape, of.dtype) for key, of in shapes.items()}
    for given in steps:
        which = int(result.calls % 13 != 0)
        want = jax.device_get(references[which]({**given, **mine}))
        got = runs[which]({**given, **theirs})
        mine, theirs = {key: want[key] for key in names.values()}, {key: got[n] for n, key in names.items()}
        result.calls += 1
        if "boxes" not in got:
            continue
        boxes, found = check.rows(want, 0), check.rows(got, 0)
        matched, pixels, score = check.match(boxes, found)
        result.boxes += len(boxes["scores"])
        result.found += len(found["scores"])
        result.matched += matched
        result.pixels, result.score = max(result.pixels, pixels), max(result.score, score)
    for key, latest in mine.items():
        result.drift[key] = float(np.abs(latest - theirs[key]).max() / np.abs(latest).max())
    return result
