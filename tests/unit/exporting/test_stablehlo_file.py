"""StableHLO files loaded by JAX alone: bit-equal to jaxdet, for every platform."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_detectors
from jax import export

from jaxdet.exporting import inputs, programs, stablehlo_file, write
from jaxdet.models import from_config
from jaxdet.nn import functional

ROOT = Path(__file__).parents[3]

# Nothing but JAX and what it needs may be imported.
ALONE = """
import sys
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jaxdet", "flax", "optax", "orbax", "ml_collections", "absl", "onnx"):
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Guard())
"""
CALLS = """
import jax, numpy as np
run = jax.jit(jax.export.deserialize(bytearray(open("m.stablehlo", "rb").read())).call)
given = dict(np.load("given.npz"))
state = {name.removeprefix("state_"): given.pop(name) for name in list(given) if name.startswith("state_")}
kept = {}
for step in range(len(next(iter(given.values())))):
    found = run({name: a[step] for name, a in given.items()} | state)
    kept |= {f"{name}_{step}": np.asarray(a) for name, a in found.items()}
    state = {name: found[name] for name in state}
np.savez("found.npz", **kept)
"""


def _alone(folder, code):
    done = subprocess.run([sys.executable, "-c", ALONE + code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _given(cfg):
    if cfg.data.kind == "events":
        steps = inputs.steps(from_config.geometry(cfg), 512, None)
        return [step for step, _ in zip(steps, range(10), strict=False)]
    return [{"images": a} for a in inputs.images(cfg.data, write.image_size(cfg), None)]


@pytest.mark.runtimes
@pytest.mark.parametrize("family", ["hmnet", "yolov4", "yolox"])
def test_jax_alone_computes_the_same_bits(tmp_path, family):
    cfg = tiny_detectors.get_config(family)
    model = functional.split(from_config.build(cfg, 0))
    program = write.program(cfg, *model, 512)
    path = tmp_path / "m.stablehlo"
    stablehlo_file.write(path, program, False)
    exported = export.deserialize(bytearray(path.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "rocm", "tpu")
    given = _given(cfg)
    state = {key: np.zeros(program.inputs[key].shape, program.inputs[key].dtype) for key in program.state}
    stacked = {key: np.stack([one[key] for one in given]) for key in given[0]}
    np.savez(tmp_path / "given.npz", **stacked, **{f"state_{key}": a for key, a in state.items()})
    _alone(tmp_path, CALLS)
    found = np.load(tmp_path / "found.npz")
    own = jax.jit(program.detect)
    for step, one in enumerate(given):
        expected = own({**one, **state})
        state = {key: expected[key] for key in program.state}
        for name, array in expected.items():
            np.testing.assert_array_equal(found[f"{name}_{step}"], array)


@pytest.mark.runtimes
def test_the_page_loads_a_file_in_jax_alone(tmp_path):
    cfg = tiny_detectors.get_config("yolox")
    model = functional.split(from_config.build(cfg, 0))
    program = programs.of_images(*model, write.image_size(cfg), None)
    stablehlo_file.write(tmp_path / "nano.stablehlo", program, False)
    page = (ROOT / "docs" / "export.md").read_text().split("## StableHLO\n")[1]
    snippet = re.search(r"```python\n(.*?)```", page, re.S)
    assert snippet is not None
    code = snippet[1].replace("416", "64").replace("(1, 3", "(2, 3")
    assert _alone(tmp_path, code).startswith("[")
