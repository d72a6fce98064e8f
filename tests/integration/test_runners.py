"""Exported files outside jaxdet: the C++ programs of docs/runners and the snippets of docs/export.md.

The programs need g++ and ONNX Runtime's C++ header, in JAXDET_ONNXRUNTIME_INCLUDE or where Debian puts it.
They are linked with the library of the Python package.
"""

import itertools
import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import pytest
import recordings_data
import yolo_models

import jaxdet.api
from jaxdet import config as c
from jaxdet.data.events import dat
from jaxdet.data.events.streams import concatenate
from jaxdet.exporting import check
from jaxdet.models import from_config
from jaxdet.nn import functional

SIDE = 64  # pixels
ROOT = Path(__file__).parents[2]
HEADERS = Path(os.environ.get("JAXDET_ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"))

pytestmark = pytest.mark.runtimes
needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") and (HEADERS / "onnxruntime_cxx_api.h").exists()),
    reason="needs g++ and ONNX Runtime's C++ header",
)


@pytest.fixture(scope="module")
def photos():
    """A detector of images and its file."""
    cfg = c.block(data=c.yolox_images(64, ("dark", "bright"), batch_size=1))
    cfg.model, skeleton, variables = yolo_models.few_classes("nano", 2)
    return jaxdet.api.Model(cfg, skeleton, jax.tree.map(jax.numpy.asarray, variables))


@pytest.fixture(scope="module")
def events():
    """A detector of events on a small sensor; its steps depend on the state."""
    cfg = c.synthetic()
    cfg.model = c.hmnet("b1", 2, widths=(16,), num_heads=(1,), out_features=16, event_features=4)
    cfg.model.image_size = (SIDE, SIDE)
    cfg.data.height = cfg.data.width = SIDE

    def spread(path, leaf):
        """Random weights, scaled so that scores lie apart and above the threshold."""
        if "_pred" in jax.tree_util.keystr(path) and leaf.ndim == 1:
            return 0 * leaf
        return 2.5 * leaf if leaf.ndim == 4 else leaf

    skeleton, (params, stats) = functional.split(from_config.build(cfg, 0))
    params = jax.tree_util.tree_map_with_path(spread, params)
    return jaxdet.api.Model(cfg, skeleton, functional.Variables(params, stats))


@pytest.fixture(scope="module")
def recording():
    """Events of 60 ms with a silence of 20."""
    rng = np.random.default_rng(0)
    first, second = (recordings_data.chunk(rng, n, 20, SIDE, SIDE) for n in (900, 1200))
    return concatenate([first, second._replace(t_us=second.t_us + 40_000)])


def _compiled(folder, name):
    spec = find_spec("onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    (library,) = (Path(spec.origin).parent / "capi").glob("libonnxruntime.so.1.*")
    soname = folder / "libonnxruntime.so.1"
    soname.symlink_to(library)
    program = folder / name
    source = ROOT / "docs" / "runners" / f"{name}.cpp"
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-isystem{HEADERS}", f"-Wl,-rpath,{folder}"]
    subprocess.run(["g++", *flags, str(source), "-o", str(program), str(soname)], check=True)
    return program


def _rows(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return np.array([[float(cell) for cell in line.split(",")] for line in done.stdout.splitlines()])


def _assert_same(rows, boxes):
    """The rows of x1, y1, x2, y2, score and class are these boxes, one to one."""
    found = {"boxes": rows[:, :4], "scores": rows[:, 4], "labels": rows[:, 5]}
    wanted = {"boxes": boxes.xyxy, "scores": boxes.scores, "labels": boxes.labels}
    assert len(rows) == len(boxes.scores) > 0
    assert check.match(wanted, found)[0] == len(rows)


@needs_compiler
def test_the_image_program_finds_what_jaxdet_finds(tmp_path, photos):
    photos.export(tmp_path / "m.onnx", check=False)
    program = _compiled(tmp_path, "image")
    rng = np.random.default_rng(0)
    for height, width in ((64, 64), (128, 128), (97, 61), (23, 40), (5, 300)):
        coarse = rng.integers(0, 255, (-(-height // 4), -(-width // 4), 3), np.uint8)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / "photo.ppm"), picture)
        found = _rows(program, tmp_path / "m.onnx", tmp_path / "photo.ppm")
        _assert_same(found, photos.predict(picture, bgr=True))


@needs_compiler
def test_the_recurrent_program_keeps_its_state(tmp_path, events, recording):
    events.export(tmp_path / "m.onnx", check=False, num_events=512)
    dat.write_dat(tmp_path / "mine.dat", recording, SIDE, SIDE)
    program = _compiled(tmp_path, "recurrent")
    found = _rows(program, tmp_path / "m.onnx", tmp_path / "mine.dat")
    expected = list(events.predict(tmp_path / "mine.dat"))
    assert len(expected) == 12
    for boxes in expected:
        _assert_same(found[found[:, 0] == boxes.time_us, 1:], boxes)


@needs_compiler
def test_the_programs_answer_bad_input_in_one_line(tmp_path, photos):
    photos.export(tmp_path / "m.onnx", check=False)
    (tmp_path / "bad.ppm").write_bytes(b"P6\n4 4\n255\n123")
    program = _compiled(tmp_path, "image")
    for path, message in (("bad.ppm", "the file ends early"), ("m.onnx", "expected a binary PPM")):
        done = subprocess.run([program, tmp_path / "m.onnx", tmp_path / path], capture_output=True, text=True)
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def _snippet(heading):
    page = (ROOT / "docs" / "export.md").read_text().split(f"## {heading}\n")[1]
    found = re.search(r"```python\n(.*?)```", page, re.S)
    assert found is not None
    return found[1]


def test_the_page_runs_a_recurrent_detector_in_onnx_runtime(tmp_path, monkeypatch, events, recording):
    events.export(tmp_path / "b3.onnx", check=False, num_events=512)
    monkeypatch.chdir(tmp_path)
    bounds = np.searchsorted(recording.t_us, np.arange(0, 65_000, 5000))
    parts = [slice(*pair) for pair in itertools.pairwise(bounds)]
    steps = [
        (recording.t_us[part] - 5000 * i, recording.x[part], recording.y[part], recording.p[part])
        for i, part in enumerate(parts)
    ]
    known: dict[str, Any] = {"steps": steps}
    exec(_snippet("ONNX").replace("304", str(SIDE)), known)
    (*_, last) = events.predict(tuple(recording))
    found = known["found"]
    _assert_same(np.column_stack([found[name] for name in ("boxes", "scores", "labels")]), last)
