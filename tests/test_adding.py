"""The section "Adding" of ARCHITECTURE.md, followed step by step: its model, data set and format work as it
stands."""

import dataclasses
import importlib
import re
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdet import api, config_files, data, prepare, sharding
from jaxdet.detections import files
from jaxdet.evaluation import of_files
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.structs import Boxes
from jaxdet.training import setup
from jaxdet.weights import checkpoint, families, rules

ROOT = Path(__file__).parent.parent

# Pixels of images of 32 x 32; training mirrors images, which leaves these where they are.
BOXES = [[4, 8, 28, 24], [8, 4, 24, 12]]


def _parts() -> list[tuple[str, str]]:
    """File and code of every part of the section's code blocks, in order."""
    text = (ROOT / "ARCHITECTURE.md").read_text().split("<!-- adding -->")[1].split("<!-- /adding -->")[0]
    parts = []
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        before, *found = re.split(r"^# (\S+\.py)\n", block, flags=re.MULTILINE)
        assert not before, "a block begins with a comment that names its file"
        parts += zip(found[::2], found[1::2], strict=True)
    return parts


def _new_module(name: str, code: str, patch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType(name)
    patch.setitem(sys.modules, name, module)
    parent, _, last = name.rpartition(".")
    patch.setattr(importlib.import_module(parent), last, module, raising=False)
    exec(compile(code, name, "exec"), vars(module))


def _extended(name: str, code: str, patch: pytest.MonkeyPatch) -> None:
    """Add rows to the tables of a module and names to the module, until the patch is undone."""
    module = importlib.import_module(name)
    before = dict(vars(module))
    scope = dict(before)
    code = re.sub(r"^(\w+) = \{\.\.\., ", r"\1 = {**\1, ", code, flags=re.MULTILINE)
    exec(compile(code, name, "exec"), scope)
    for key, value in scope.items():
        if isinstance(before.get(key), dict) and value is not before[key] and key != "__builtins__":
            for row in value.keys() - before[key].keys():
                patch.setitem(before[key], row, value[row])
        elif key not in before or value is not before[key]:
            patch.setattr(module, key, value, raising=False)


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """Folder with the new config file, while all that the section adds is in place."""
    folder = tmp_path_factory.mktemp("adding")
    with pytest.MonkeyPatch.context() as patch:
        for file, code in _parts():
            name = ".".join(Path(file).with_suffix("").parts).removesuffix(".__init__")
            if file.startswith("configs/"):
                (folder / Path(file).name).write_text(code)
            elif (ROOT / file).exists():
                _extended(name, code, patch)
            else:
                _new_module(name, code, patch)
        yield folder


@pytest.fixture(scope="module")
def cfg(added):
    """Config of the new model and data set, whose two splits are prepared by its command."""
    source, out = added / "source", added / "dots"
    source.mkdir()
    boxes = np.array(BOXES, np.float32)
    frames = np.zeros((2, 32, 32), np.uint8)
    for frame, (x1, y1, x2, y2) in zip(frames, boxes.astype(int)):
        frame[y1:y2, x1:x2] = 255
    for split in ("train", "val"):
        np.savez(source / f"{split}.npz", frames=frames, boxes=boxes)
    assert prepare.main(["dots", f"--source={source}", f"--out={out}"]) == 0
    found = config_files.load(f"{added / 'dots_blob.py'}:s")
    return config_files.override(
        found, [("data.root", str(out)), ("data.recipe", "plain"), ("data.test_split", "val/images")]
    )


def test_boxes_of_the_data_set_reach_batches_and_evaluation(cfg, added):
    batch = next(iter(data.open(cfg.data, "val/images")))
    found = sorted(batch.targets.boxes[batch.targets.box_mask].tolist())
    np.testing.assert_allclose(found, BOXES, atol=1e-4)
    perfect = [
        Boxes(np.array([box], float), np.ones(1), np.zeros(1, np.int32), source=f"{n}.png")
        for n, box in enumerate(BOXES)
    ]
    files.write(added / "perfect.lines", perfect)
    metrics = of_files.of_files(added / "perfect.lines", data=cfg.data)
    assert metrics.ap == pytest.approx(1)


def test_the_model_trains_and_its_weights_come_back(cfg, tmp_path):
    mesh = sharding.make_mesh(cfg.data.batch_size, jax.devices()[:1])
    run = setup.assemble(cfg, mesh)
    before = jax.device_get(run.state.params)
    batch = next(iter(data.open(cfg.data, cfg.data.train_split)))
    placed = next(setup.device_batches(iter([batch]), mesh))
    state, _, metrics = run.train_step(run.state, run.carry, placed)
    assert set(run.loss_names) <= set(metrics)
    assert np.isfinite(metrics["loss"])
    assert metrics["gradient_norm"] > 0
    after = functional.Variables(jax.device_get(state.params), jax.device_get(state.batch_stats))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after.params)
    assert moved["backbone"]["conv"]["conv"]["kernel"]
    assert moved["neck"]["conv"]["conv"]["kernel"]

    checkpoint.save_weights(tmp_path / "weights", after, setup.as_json(cfg))
    model = api.load(tmp_path / "weights")
    assert (model.family, model.kind, model.class_names) == ("blob", "images", ("dot",))
    jax.tree.map(np.testing.assert_array_equal, model._variables.params, after.params)

    family = families.of_config(cfg.model)
    state_dict = rules.to_torch(after, family)
    assert "backbone.conv.bn.running_mean" in state_dict
    _, target = functional.abstract(lambda: from_config.build(cfg, 0))
    again, _ = rules.from_torch(state_dict, family, target)
    jax.tree.map(np.testing.assert_array_equal, again.params, after.params)


def test_boxes_in_the_new_format_come_back(added, tmp_path):
    rng = np.random.default_rng(0)
    frames = [
        Boxes(
            rng.uniform(0, 99, (n, 4)), rng.uniform(0, 1, n), rng.integers(0, 3, n, np.int32), source=source
        )
        for n, source in ((2, "a b/x.png"), (1, "y.png"))
    ]
    files.write(tmp_path / "out.lines", frames)
    for found, given in zip(files.read(tmp_path / "out.lines").frames, frames, strict=True):
        assert found.source == given.source
        for field in dataclasses.fields(Boxes)[:3]:
            np.testing.assert_array_equal(getattr(found, field.name), getattr(given, field.name))
