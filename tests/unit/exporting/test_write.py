"""Exported files: what is refused, what is kept, and whole models."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx_graphs
import pytest
import tiny_detectors

import jaxdet.api
from jaxdet import export
from jaxdet.errors import InputError
from jaxdet.exporting import check, manifest, onnx_file, write
from jaxdet.exporting.programs import Program
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.ops.select import BestClass, Candidates
from jaxdet.training import setup
from jaxdet.weights import checkpoint

SHAPE = (1, 3, 64, 64)


def _program(factor=1.0):
    """A head of one candidate for each row, which is the mean of its pixels."""

    def propose(inputs):
        rows = inputs["images"].mean((1, 3)) * factor
        boxes = jnp.stack([rows, rows, rows + 9, rows + 9], -1)
        return Candidates(boxes, jax.nn.sigmoid(rows), jnp.ones((1, 64, 2))), jnp.ones((1, 1), bool), {}

    def finish(candidates, valid):
        boxes, scores, labels, mask = BestClass()(candidates, valid)
        return {"boxes": boxes, "scores": scores, "labels": labels, "count": mask.sum(1)}

    inputs = {"images": jax.ShapeDtypeStruct(SHAPE, jnp.float32)}
    return Program(inputs, (), propose, lambda i: {"raw": propose(i)[0].boxes}, finish, BestClass(), None)


@pytest.fixture
def config(monkeypatch):
    """A config whose detector is the small program above."""
    monkeypatch.setattr(write, "program", lambda *_: _program())
    # Importing OpenVINO starts a process, of which JAX warns.
    found = write.runtimes.find_spec
    monkeypatch.setattr(write.runtimes, "find_spec", lambda name: None if name == "openvino" else found(name))
    return tiny_detectors.get_config("yolox")


def _export(path, config, **options):
    return write.export(path, config, None, None, write.Form(raw=True), version="1", **options)


def test_file_manifest_and_comparison_are_kept_together(tmp_path, config):
    (first, *_) = _export(tmp_path / "m.onnx", config, licence="CC0")
    assert first.passed
    assert first.calls == 2
    described = json.loads((tmp_path / "m.onnx.json").read_text())
    inside = onnx_graphs.onnx.load(str(tmp_path / "m.onnx")).metadata_props[0]
    assert inside.key == manifest.KEY
    assert json.loads(inside.value) == {k: v for k, v in described.items() if k != "check"}
    assert described["inputs"][0]["shape"] == list(SHAPE)
    assert described["weights_licence"] == "CC0"
    assert described["check"][0]["passed"] is True
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.json"]


def test_a_file_that_differs_is_not_kept(tmp_path, config, monkeypatch):
    faithful = onnx_file.write
    monkeypatch.setattr(
        write.onnx_file, "write", lambda path, _, *rest: faithful(path, _program(1.01), *rest)
    )
    with pytest.raises(
        InputError, match=r"differs from jaxdet, so it is not kept: onnxruntime: .* raw 0\.00"
    ):
        _export(tmp_path / "m.onnx", config)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_succeed_is_refused_before_any_work(tmp_path, config, monkeypatch):
    (tmp_path / "taken.onnx.json").touch()
    cases = {
        "m.pt": "ends in .onnx or .stablehlo",
        "taken.onnx": "taken.onnx.json exists; remove it",
        "none/m.onnx": "none: no such folder",
    }
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            _export(tmp_path / name, config)
    with pytest.raises(InputError, match="no such file; expected images"):
        _export(tmp_path / "m.onnx", config, source=Path("missing"))
    monkeypatch.setattr(write.runtimes, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"onnx, onnxruntime is not installed; pip install 'jaxdet\[export\]'"
    ):
        _export(tmp_path / "m.onnx", config)
    assert [p.name for p in tmp_path.iterdir()] == ["taken.onnx.json"]


def test_a_primitive_without_a_rule_leaves_nothing(tmp_path, config, monkeypatch):
    program = _program()
    sorted_rows = program._replace(raw=lambda i: {"raw": jnp.sort(program.raw(i)["raw"])})
    monkeypatch.setattr(write, "program", lambda *_: sorted_rows)
    with pytest.raises(InputError, match="primitive 'sort' of the model has no ONNX form here") as caught:
        _export(tmp_path / "m.onnx", config)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_files_is_one_line(tmp_path, config, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(write.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(InputError, match="no file can be written there: Permission denied") as caught:
        _export(tmp_path / "m.onnx", config)
    assert "\n" not in str(caught.value)


def test_the_command_answers_in_one_line(tmp_path, capsys):
    out = f"--out={tmp_path}/m.onnx"
    cases = {
        "--images and --input are two names": ["--weights=w", "--images=a", "--input=b"],
        "--nocheck compares nothing": ["--weights=w", "--nocheck", "--input=b"],
        "--events=0: expected at least 1": ["--weights=w", "--events=0"],
        "--annotations measure the boxes": ["--weights=w", "--annotations=a", "--raw"],
        "w.pth does not exist": ["--weights=w.pth"],
    }
    for message, flags in cases.items():
        assert export.main([*flags, out]) == 1
        line = capsys.readouterr().err
        assert line.startswith(f"error: {message}")
        assert line.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def interrupts():
    """SIGINT interrupts, though whoever runs tests in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_told_to_stop_leaves_nothing(tmp_path, monkeypatch, capsys, config, number, status):
    _, variables = functional.split(from_config.build(config, 0))
    checkpoint.save_weights(tmp_path / "w", variables, setup.as_json(config))
    written = []

    def write_half(path, *_):
        path.write_bytes(b"half")
        written.append(path)
        signal.raise_signal(number)

    monkeypatch.setattr(write.onnx_file, "write", write_half)
    with pytest.raises(SystemExit) as ended:
        sys.exit(export.main([f"--weights={tmp_path / 'w'}", f"--out={tmp_path / 'm.onnx'}"]))
    assert ended.value.code == status
    assert [path.parent.name[:3] for path in written] == [".m."]
    assert "Traceback" not in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_weights_of_another_sensor_are_one_line(tmp_path, capsys):
    cfg = tiny_detectors.get_config("hmnet")
    _, variables = functional.split(from_config.build(cfg, 0))
    checkpoint.save_weights(tmp_path / "w", variables, setup.as_json(cfg))
    flags = [f"--weights={tmp_path / 'w'}", "--model_sensor=96x80", f"--out={tmp_path / 'm.onnx'}"]
    assert export.main(flags) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert "a sensor of 64x64 pixels" in line
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_large_weights_lie_beside_the_file(tmp_path):
    program = _program()
    big = jnp.arange(64.0).reshape(1, 64, 1)
    wider = program._replace(raw=lambda i: {"raw": program.raw(i)["raw"] + big})
    path = tmp_path / "m.onnx"
    onnx_file.write(path, wider, True, {}, largest=100)
    assert (tmp_path / "m.onnx.data").stat().st_size >= 256
    pixels = np.random.default_rng(0).random(SHAPE, np.float32)
    session = onnx_graphs.session(str(path))
    # A mean of 192 numbers below 1, in another order.
    np.testing.assert_allclose(
        session.run(None, {"images": pixels})[0], wider.raw({"images": pixels})["raw"], rtol=1e-5
    )


def test_no_node_is_written_that_nothing_needs(tmp_path):
    """Nearest-neighbour enlargement is one node, and what was broadcast for it is not repeated."""

    def doubled(inputs):
        small = jnp.transpose(inputs["images"], (0, 2, 3, 1))
        wide = jnp.broadcast_to(small[:, :, None, :, None], (1, 64, 2, 64, 2, 3))
        return {"raw": jnp.transpose(wide.reshape(1, 128, 128, 3), (0, 3, 1, 2))}

    onnx_file.write(tmp_path / "m.onnx", _program()._replace(raw=doubled), True, {})
    graph = onnx_graphs.onnx.load(str(tmp_path / "m.onnx")).graph
    ops = [node.op_type for node in graph.node]
    assert "Resize" in ops
    assert "Expand" not in ops
    taken = {name for node in graph.node for name in node.input} | {end.name for end in graph.output}
    assert all(taken.intersection(node.output) for node in graph.node)


def test_the_package_imports_nothing_of_the_extra():
    assert "jaxdet.exporting.write" in sys.modules
    # JAX takes flatbuffers where it is there.
    source = (
        "import sys; sys.modules['flatbuffers'] = None; import jaxdet.export; "
        "print({'onnx', 'onnxruntime', 'openvino'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_form_that_there_is_not_is_one_line(tmp_path, config):
    events = tiny_detectors.get_config("hmnet")
    onnx, stablehlo, here = tmp_path / "m.onnx", tmp_path / "m.stablehlo", tmp_path
    cases = [
        ("--dtype=int4: expected one of float32", config, onnx, {"dtype": "int4"}, {}),
        ("--batch=0: expected a number of images, or any", config, onnx, {"batch": "0"}, {}),
        ("--batch=few: expected", config, onnx, {"batch": "few"}, {}),
        ("are for models of images", events, onnx, {"batch": 2}, {}),
        ("are for models of images", events, stablehlo, {"dtype": "bfloat16"}, {}),
        ("bfloat16: .* give --dtype=float32", config, onnx, {"dtype": "bfloat16"}, {}),
        ("--int8 is for .onnx files", config, stablehlo, {"int8": True}, {"source": here}),
        ("--int8 is for .onnx files", config, onnx, {"int8": True, "dtype": "float16"}, {"source": here}),
        ("--int8 takes the ranges of values from --images", config, onnx, {"int8": True}, {}),
        ("goes with neither --raw", config, onnx, {"int8": True, "raw": True}, {"source": here}),
    ]
    for message, cfg, path, form, options in cases:
        with pytest.raises(InputError, match=message) as caught:
            write.export(path, cfg, None, None, write.Form(**form), version="1", **options)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.runtimes
@pytest.mark.parametrize("family", ["yolov4", "yolox"])
@pytest.mark.parametrize(
    ("suffix", "form"),
    [
        (".onnx", {"batch": "any"}),
        (".onnx", {"batch": 3}),
        (".onnx", {"dtype": "float16"}),
        (".stablehlo", {"batch": 2}),
        (".stablehlo", {"dtype": "bfloat16"}),
    ],
)
def test_other_forms_of_whole_models_pass_their_check(tmp_path, family, suffix, form):
    config = tiny_detectors.get_config(family)
    model = jaxdet.api.Model(config, *functional.split(from_config.build(config, 0)))
    (found, *_) = model.export(tmp_path / f"m{suffix}", raw=True, **form)
    assert found.passed
    # What is rounded to 8 or 11 bits differs.
    assert (max(found.relative.values()) > 1e-5) == ("dtype" in form)
    described = json.loads((tmp_path / f"m{suffix}.json").read_text())
    batch = form.get("batch", "any" if suffix == ".stablehlo" else 1)
    assert described["inputs"][0]["shape"][0] == ("batch" if batch == "any" else batch)
    assert described["type"] == form.get("dtype", "float32")


@pytest.mark.runtimes
@pytest.mark.parametrize("suffix", [".onnx", ".stablehlo"])
@pytest.mark.parametrize("family", ["yolov4", "yolox"])
def test_whole_models_of_images_pass_their_check(tmp_path, family, suffix):
    config = tiny_detectors.get_config(family)
    model = jaxdet.api.Model(config, *functional.split(from_config.build(config, 0)))
    for comparison in model.export(tmp_path / f"m{suffix}", raw=True):
        assert comparison.passed
        assert suffix == ".onnx" or max(comparison.relative.values()) == 0


def test_drift_is_told_apart_from_the_error_of_a_step():
    """The file doubles an error of its own; jaxdet starts each step from the file's state."""
    inputs = {"x": jax.ShapeDtypeStruct((1,), jnp.float32)}
    own = lambda i: {"x": 2 * i["x"] + 1}  # noqa: E731
    program = Program(inputs, ("x",), _program().propose, own, _program().finish, BestClass(), None)
    steps = [{} for _ in range(10)]
    found = check.run(program, True, "file", lambda i: {"x": 2 * i["x"] + np.float32(1.0001)}, steps, False)
    assert found.relative["x"] == pytest.approx(1e-4, rel=0.1)
    assert found.drift["x"] == pytest.approx(1e-4, rel=0.1)
    assert found.calls == 10
