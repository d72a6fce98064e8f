"""A training that starts from weights of another sensor and class list."""

import logging

import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.ops import resize
from jaxdet.weights import checkpoint, families, initial, rules
from jaxdet.weights.torch import file


def config(size, classes):
    model = {"name": "hmnet", "num_classes": classes, "image_size": size, "widths": (8, 8), "depths": (1, 1),
             "num_heads": (1, 1), "periods": (1, 2), "out_features": 8, "event_features": 4}  # fmt: skip
    return ConfigDict({"model": model, "data": {"height": size[0], "width": size[1], "kind": "events"}})


def weights(cfg, seed):
    return functional.split(from_config.build(cfg, seed))[1]


@pytest.mark.parametrize("kind", ["folder", "released"])
def test_another_sensor_and_class_list_take_what_fits_and_resize_the_latents(tmp_path, caplog, kind):
    size = (24, 40) if kind == "folder" else (240, 304)
    old, new = config(size, 2), config((40, 56), 3)
    known, fresh = weights(old, 0), weights(new, 1)
    known = known._replace(params=_numbered(known.params))
    if kind == "folder":
        checkpoint.save_weights(tmp_path / "w", known, old.to_dict())
    else:
        file.save(tmp_path / "w", dict(rules.to_torch(known, families.HMNET)))
    with caplog.at_level(logging.INFO):
        found = initial.weights(str(tmp_path / "w"), new.model)(fresh)
    grid, half = (size[0] // 4, size[1] // 4), (size[0] // 8, size[1] // 8)
    for memory, (a, b) in {
        "memory1": (grid, (10, 14)),
        "memory2": ((grid[0] // 2, grid[1] // 2), (5, 7)),
    }.items():
        before = np.asarray(known.params["backbone"][memory]["init_latent"]).reshape(*a, 8)
        after = np.asarray(found.params["backbone"][memory]["init_latent"]).reshape(*b, 8)
        for row, weight in enumerate(resize.weights(a[0], b[0])):
            expected = np.tensordot(resize.weights(a[1], b[1]), np.tensordot(weight, before, 1), 1)
            np.testing.assert_allclose(after[row], expected, rtol=1e-5, atol=1e-5)
    kernels = [v.params["backbone"]["memory1"]["proj_out"]["linear"]["kernel"] for v in (known, found)]
    np.testing.assert_array_equal(*kernels)
    level = found.params["head"]["levels"]["0"]["cls_pred"]["bias"]
    np.testing.assert_array_equal(level, fresh.params["head"]["levels"]["0"]["cls_pred"]["bias"])
    cells = f"cells {grid[1]}x{grid[0]} to 14x10, {half[1]}x{half[0]} to 7x5"
    assert f"initial latents resized bilinearly, {cells}" in caplog.text
    assert "4 not used, 4 left as initialised" in caplog.text  # kernel and bias of the classes, two levels


def test_a_grid_that_nobody_knows_stays_fresh(tmp_path, caplog):
    known, new = weights(config((24, 40), 2), 0), config((40, 56), 2)
    fresh = weights(new, 1)
    file.save(tmp_path / "w", dict(rules.to_torch(known, families.HMNET)))
    with caplog.at_level(logging.INFO):
        found = initial.weights(str(tmp_path / "w"), new.model)(fresh)
    latents = [v.params["backbone"]["memory1"]["init_latent"] for v in (found, fresh)]
    np.testing.assert_array_equal(*latents)
    assert "resized" not in caplog.text
    assert "2 not used, 2 left as initialised" in caplog.text


def _numbered(params):
    """The parameters with initial latents that differ from cell to cell."""
    backbone = {**params["backbone"]}
    for name, memory in params["backbone"].items():
        if "init_latent" in memory:
            latent = np.random.default_rng(3).normal(size=memory["init_latent"].shape).astype(np.float32)
            backbone[name] = {**memory, "init_latent": latent}
    return {**params, "backbone": backbone}
